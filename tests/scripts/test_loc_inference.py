"""loc_inference.py as people run it: files, exit codes, messages."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.arguments.localization import parse_localize_arguments
from gsplatloc.cli import run as run_command
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.initial.members import LandmarkMatchingOptions
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.localization.landmarks.file import FILE_NAME, save_landmarks
from gsplatloc.localization.refine.members import WarpOptions
from gsplatloc.mapping.landmarks import build_landmarks
from gsplatloc.mapping.triangulation import triangulate
from gsplatloc.scene import read_scene
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import MapConfig, write_config
from gsplatloc.utils import se3
from tests.localization.world import pose_errors

ROOT = Path(__file__).resolve().parents[2]
FOCAL, WIDTH, HEIGHT = 300.0, 320, 256
WALL_M = 0.01  # per pixel of the wall's texture


@dataclass(frozen=True)
class Place:
    """A scene on disk and the map made of it."""

    scene: Path
    model: Path
    truths: dict[str, torch.Tensor]


def wall_texture() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.zeros((600, 700, 3))
    for block in (6, 13, 29):
        coarse = rng.integers(0, 80, (600 // block + 1, 700 // block + 1, 3))
        image += coarse.repeat(block, 0).repeat(block, 1)[:600, :700]
    return image.astype(np.uint8)


def photo(texture: np.ndarray, cam_from_world: torch.Tensor) -> np.ndarray:
    """A picture of a textured wall at z = 0, whose pixel (u, v) lies at (WALL_M u - 3.5, WALL_M v - 3, 0)."""
    calibration = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    pose = cam_from_world.numpy()
    plane = np.column_stack([pose[:3, 0], pose[:3, 1], pose[:3, 3]])
    world_from_texture = np.array([[WALL_M, 0, -3.5], [0, WALL_M, -3.0], [0, 0, 1]])
    half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])  # our pixel centres to OpenCV's
    homography = half @ calibration @ plane @ world_from_texture @ np.linalg.inv(half)
    return cv2.warpPerspective(texture, homography, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)


def write_view(scene: Path, split: str, name: str, image: np.ndarray, cam_from_world: torch.Tensor) -> None:
    """One view of layout 1: rgb, camera-to-world pose, focal length."""
    for folder in ("rgb", "poses", "calibration"):
        (scene / split / folder).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(scene / split / "rgb" / f"{name}.png"), image)
    np.savetxt(scene / split / "poses" / f"{name}.txt", se3.inverse(cam_from_world).numpy())
    (scene / split / "calibration" / f"{name}.txt").write_text(f"{FOCAL}\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A textured wall seen by eight training and two test cameras, mapped as landmarks only."""
    root = tmp_path_factory.mktemp("place")
    scene, model, truths, texture = root / "wall", root / "model", {}, wall_texture()
    generator = torch.Generator().manual_seed(0)
    for i in range(10):
        x, y = (i % 4) * 0.3 - 0.45, (i // 4) * 0.3 - 0.3
        turn = 0.1 * torch.randn(3, generator=generator, dtype=torch.float64)
        world_from_cam = torch.eye(4, dtype=torch.float64)
        world_from_cam[:3, :3] = se3.so3_exp(turn)
        world_from_cam[:3, 3] = torch.tensor([x, y, -3.0])
        cam_from_world = se3.inverse(world_from_cam)
        split, name = ("test" if i in (4, 7) else "train"), f"frame-{i:03d}"
        write_view(scene, split, name, photo(texture, cam_from_world), cam_from_world)
        if split == "test":
            truths[f"{name}.png"] = cam_from_world
    views, extractor = read_scene(scene).train, XFeatExtractor()
    keypoints = [extractor.extract(view.load_image()).keypoints for view in views]
    tracks = triangulate(views, keypoints)
    save_landmarks(build_landmarks(views, tracks, extractor.version), model / FILE_NAME)
    write_config(model, MapConfig(str(scene), extractor=extractor.version))
    for view in views:  # only the header is left: localization may not look at training images
        view.image_path.write_bytes(view.image_path.read_bytes()[:64])
    return Place(scene, model, truths)


def run(*arguments: str | Path | float) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (sys.executable, ROOT / "loc_inference.py", *arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def initial_run(place: Place) -> subprocess.CompletedProcess[str]:
    return run("-m", place.model, "--stages", "initial")


def test_run_exits_with_0_and_prints_a_table(initial_run: subprocess.CompletedProcess[str]) -> None:
    assert initial_run.returncode == 0, initial_run.stderr
    assert "2 queries, 0 failed" in initial_run.stdout
    assert "5cm_5deg" in initial_run.stdout


def test_metrics_are_written(initial_run: subprocess.CompletedProcess[str], place: Place) -> None:
    figures = json.loads((place.model / "localization" / "metrics.json").read_text())
    assert (figures["count"], figures["failed"]) == (2, 0)
    assert figures["final"]["median_translation_m"] < 0.02
    assert figures["map_bytes"] == (place.model / FILE_NAME).stat().st_size


def test_poses_are_written(initial_run: subprocess.CompletedProcess[str], place: Place) -> None:
    records = read_poses(place.model / "localization" / "poses.txt")
    assert set(records) == set(place.truths)
    for name, record in records.items():
        assert record.focal == FOCAL
        assert pose_errors(record.cam_from_world, place.truths[name])[0] < 0.05


def test_every_query_has_a_row(initial_run: subprocess.CompletedProcess[str], place: Place) -> None:
    rows = (place.model / "localization" / "per_query.csv").read_text().splitlines()
    assert rows[0].startswith(
        "name,status,features_ms,total_ms,focal_px,score,initial_status,initial_inliers"
    )
    assert len(rows) == 3
    assert all(len(row.split(",")) == len(rows[0].split(",")) for row in rows)


def test_folder_of_photos_is_localized_without_truth(
    initial_run: subprocess.CompletedProcess[str], place: Place
) -> None:
    evaluation = (place.model / "localization" / "metrics.json").read_bytes()
    done = run(
        "-m", place.model, "--stages", "initial", "--queries", place.scene / "test" / "rgb", "--focal", FOCAL
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((place.model / "queries" / "metrics.json").read_text())
    assert figures["final"]["median_translation_m"] is None
    records = read_poses(place.model / "queries" / "poses.txt")
    for name, truth in place.truths.items():
        assert pose_errors(records[name].cam_from_world, truth)[0] < 0.05
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(name)]
        center = [float(word) for word in line.split("center ")[1].split()[:3]]
        assert center == pytest.approx(se3.camera_center(records[name].cam_from_world).tolist(), abs=1e-3)
        assert " ok " in line and " cm " in line
    assert f"results  {place.model / 'queries'}" in done.stdout
    assert (place.model / "localization" / "metrics.json").read_bytes() == evaluation


def test_one_photo_is_localized_into_a_folder_without_the_report_of_another_run(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    for stale in ("report.html", "pictures/01_worst_old.png"):
        (tmp_path / stale).touch()
    name = next(iter(place.truths))
    photo = place.scene / "test" / "rgb" / name
    done = run(
        "-m", place.model, "--stages", "initial", "--queries", photo, "--output", tmp_path, "--no_pictures"
    )
    assert done.returncode == 0, done.stderr
    assert list(read_poses(tmp_path / "poses.txt")) == [name]
    assert not (tmp_path / "report.html").exists() and not list((tmp_path / "pictures").iterdir())


def test_json_is_a_line_per_query_and_nothing_else(place: Place, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(place.scene / "test" / "rgb", photos)
    (photos / "broken.png").write_bytes(b"no image")
    words = ("--stages", "initial", "--queries", photos, "--output", tmp_path / "results", "--focal", FOCAL)
    done = run("-m", place.model, *words, "--json")
    assert done.returncode == 0, done.stderr
    found = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    broken = found.pop("broken.png")
    assert broken["status"] == "unreadable" and broken["cam_from_world"] is None and broken["advice"]
    assert set(found) == set(place.truths)
    for name, line in found.items():
        pose = torch.tensor(line["cam_from_world"], dtype=torch.float64)
        assert pose_errors(pose, place.truths[name])[0] < 0.05
        assert line["center"] == pytest.approx(se3.camera_center(pose).tolist())
        assert line["status"] == "ok" and line["intrinsics"][0] == FOCAL
        assert len(line["covariance"]) == 6 and line["translation_error_m"] is None
    assert "median" in done.stderr or "failed" in done.stderr, "the table for people"


def test_photos_without_intrinsics_are_localized_whatever_their_names_and_sizes(
    place: Place, tmp_path: Path
) -> None:
    """Twice as large as the mapping images, a space in the name, and one that shows nothing."""
    name, truth = next(iter(place.truths.items()))
    photo = cv2.imread(str(place.scene / "test" / "rgb" / name))
    cv2.imwrite(str(tmp_path / "IMG 1.png"), cv2.resize(photo, (2 * WIDTH, 2 * HEIGHT)))
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((30, 40), 200, np.uint8))
    done = run("-m", place.model, "--stages", "initial", "--queries", tmp_path, "--max_side", WIDTH)
    assert done.returncode == 0, done.stderr
    figures = json.loads((place.model / "queries" / "metrics.json").read_text())
    assert (figures["count"], figures["failed"]) == (2, 1)
    records = read_poses(place.model / "queries" / "poses.txt")
    assert list(records) == ["IMG 1.png"]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("blank.png")]
    assert "too_few_matches" in line and "sharper, larger or brighter" in done.stdout
    assert records["IMG 1.png"].focal == pytest.approx(2 * FOCAL, rel=0.1)
    assert pose_errors(records["IMG 1.png"].cam_from_world, truth)[0] < 0.3


PLUGIN = """
from dataclasses import dataclass, replace

from gsplatloc.localization.refine import REFINERS


@dataclass(frozen=True)
class NudgeOptions:
    shift: float = 0.0  # metres along the optical axis


class Nudge:
    name = "nudge"

    def __init__(self, options):
        self.options = options

    def refine(self, query, splat_map, initial):
        pose = initial.cam_from_world.clone()
        pose[2, 3] += self.options.shift
        return replace(initial, cam_from_world=pose)


@REFINERS.register("nudge", NudgeOptions, "moves every pose")
def make(options, context):
    return Nudge(options)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refiner of somebody else: one file, named by an environment variable."""
    (tmp_path / "nudge.py").write_text(PLUGIN)
    monkeypatch.setenv("GSPLATLOC_PLUGINS", str(tmp_path / "nudge.py"))
    monkeypatch.setenv("COLUMNS", "100")  # a wide terminal shows help in two columns


def test_a_plugins_stage_and_flags_are_in_the_help(plugin: None) -> None:
    text = " ".join(run("--help").stdout.replace("│", " ").split())
    assert "nudge (moves every pose)" in text
    assert "--nudge.shift FLOAT metres along the optical axis (default: 0.0)" in text
    assert run("-m", "map", "--nudge.shift", "far").returncode == 2


def test_a_plugins_stage_runs_and_is_a_row_of_the_figures(plugin: None, place: Place, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(place.model, model)
    gaussians = Gaussians(
        means=torch.eye(3),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4),
        log_scales=torch.full((3, 3), -2.0),
        opacity_logits=torch.zeros(3),
        sh=torch.zeros(3, 1, 3),
        features=torch.zeros(3, 0),
    )
    save_gaussians(model, 1, gaussians)
    done = run("-m", model, "--stages", "nudge", "--nudge.shift", 0.5, "--no_pictures")
    assert done.returncode == 0, done.stderr
    figures = json.loads((model / "localization" / "metrics.json").read_text())
    assert list(figures["stages"]) == ["initial", "nudge", "prior"]
    assert figures["stages"]["nudge"]["median_translation_m"] == pytest.approx(0.5, abs=0.05)
    assert figures["final"]["median_translation_m"] == figures["stages"]["nudge"]["median_translation_m"]


def test_moved_scene_is_named_on_the_command_line(place: Place, tmp_path: Path) -> None:
    done = run("-m", place.model, "-s", tmp_path / "moved", "--stages", "initial")
    assert done.returncode == 1
    assert "error: expected a scene folder" in done.stderr


@pytest.mark.parametrize("extra", [(), ("--stages", "initial")])
def test_folder_without_a_map_exits_with_1_and_one_line(tmp_path: Path, extra: tuple[str, ...]) -> None:
    done = run("-m", tmp_path, *extra)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected a map")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "extra",
    [
        ("--queries", "none"), ("--focal", 0, "--queries", "."), ("--device", "nonsense"), ("--top_k", 0),
        ("--stages", "warp"), ("--warp_lr", -1), ("--ransac_iters", 0),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_one_line_and_exit_with_1(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: Any,
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    words = [
        "loc_inference.py",
        "-m",
        place.model,
        "--quiet",
        *(() if "--stages" in extra else ("--stages", "initial")),
    ]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (*words, *extra)])
    with pytest.raises(SystemExit) as stop:
        run_command("gsplatloc.cli.localize")
    captured = capsys.readouterr().err
    assert stop.value.code == 1
    assert captured.startswith("error: expected") and captured.count("\n") == 1


def test_wrong_usage_exits_with_2() -> None:
    assert run().returncode == 2
    assert run("-m", "somewhere", "--no_such_flag").returncode == 2


def test_flags_reach_the_options() -> None:
    line = "-m out -s scene --top_k 100 --ransac_iters 50 --warp_lr 0.01 --warp_iters 9 --stages prior warp"
    arguments = parse_localize_arguments(
        [*line.split(), "--intrinsics", "1", "2", "3", "4", "--iteration", "7"]
    )
    options = arguments.options()
    settings = {type(item): item for item in options.settings}
    landmarks, warp = settings[LandmarkMatchingOptions], settings[WarpOptions]
    assert (options.top_k, landmarks.pnp.max_iterations) == (100, 50)
    assert (warp.lr, warp.iterations) == (0.01, 9)
    assert options.chain() == ("initial", "warp")
    assert arguments.camera.known().matrix == (1, 2, 3, 4)
    assert (arguments.source_path, arguments.computation.iteration) == (Path("scene"), 7)
