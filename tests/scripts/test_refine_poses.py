"""refine_poses.py as people run it: any estimator's poses in, refined poses, figures and errors out."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.cli import refine as refine_poses
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.io.poses import PoseRecord, read_poses, write_poses
from gsplatloc.localization.refine.members import GscprOptions
from gsplatloc.mapping.initialization import gaussians_from_points
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import SparsePoints, View
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.scene.trajectory import Trajectory, read_tum_trajectory, write_tum_trajectory
from gsplatloc.utils import se3
from gsplatloc.utils.console import run_script
from tests.localization.world import pose_errors

ROOT = Path(__file__).resolve().parents[2]
ERROR = torch.tensor([0.06, -0.05, 0.04, 0.03, -0.04, 0.02], dtype=torch.float64)  # 9 cm, 3 degrees


@dataclass(frozen=True)
class Place:
    """A scene on disk, a map of it, and where its test images were taken."""

    scene: Path
    model: Path
    truths: dict[str, Tensor]

    def coarse(self) -> dict[str, Tensor]:
        return {name: se3.se3_exp(ERROR) @ pose for name, pose in self.truths.items()}


def lifted(views: list[View], step: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Points and colours of every `step`-th pixel of the views' depth maps: a map without training."""
    points, colors = [], []
    for view in views:
        assert view.load_depth is not None
        depth, image = view.load_depth(), view.load_image()
        rows, columns = np.nonzero(depth[::step, ::step])
        pixels = torch.from_numpy(np.stack([columns, rows], 1) * step + 0.5)
        local = view.camera.unproject(pixels, torch.from_numpy(depth[::step, ::step][rows, columns]).double())
        world_from_cam = se3.inverse(view.cam_from_world)
        points.append((local @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]).numpy())
        colors.append(image[::step, ::step][rows, columns])
    return np.concatenate(points), np.concatenate(colors)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A part of the synthetic room; its map are the depth maps of two views, as small Gaussians."""
    pytest.importorskip("gsplatloc_kernels")
    root = tmp_path_factory.mktemp("place")
    make_room(root / "room", RoomOptions(width=256, height=192, train=6, test=2, arc=0.1, supersampling=1))
    scene = read_scene(root / "room")
    points, colors = lifted(scene.train[1::3])
    gaussians = gaussians_from_points(
        SparsePoints(points, colors), 0, torch.zeros(len(points), 0), opacity=0.9
    )
    model = root / "model"
    save_gaussians(model, 1, gaussians)
    write_config(model, MapConfig(str(root / "room")))
    write_cameras(model, scene.train)
    return Place(root / "room", model, {view.name: view.cam_from_world for view in scene.test})


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "refine_poses.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def refine(*arguments: object) -> None:
    """The same in this process, which saves seconds of imports."""
    refine_poses.main(parse_refine_arguments(["--quiet", *map(str, arguments)]))


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of an error of the user's, run in this process."""
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: refine(*arguments))
    captured = capsys.readouterr().err
    assert stop.value.code == 1
    assert captured.startswith("error: expected") and captured.count("\n") == 1
    return captured


def test_poses_come_nearer_and_files_are_those_of_localization(place: Place, tmp_path: Path) -> None:
    write_poses(tmp_path / "coarse.txt", [PoseRecord(name, pose) for name, pose in place.coarse().items()])
    done = run("-m", place.model, "--poses", tmp_path / "coarse.txt")
    assert done.returncode == 0, done.stderr
    assert "2 queries, 0 failed" in done.stdout
    figures = json.loads((place.model / "refined" / "metrics.json").read_text())
    coarse, final = figures["stages"]["initial"], figures["final"]
    assert list(figures["stages"]) == ["initial", "gscpr", "prior"]
    assert coarse["median_translation_m"] > 0.08
    assert final["median_translation_m"] < 0.05 and final["median_rotation_deg"] < 1
    assert figures["map_bytes"] > 1000
    refined = read_poses(place.model / "refined" / "poses.txt")
    assert set(refined) == set(place.truths)
    for name, record in refined.items():
        assert pose_errors(record.cam_from_world, place.truths[name])[0] < 0.05
    rows = (place.model / "refined" / "per_query.csv").read_text().splitlines()
    assert len(rows) == 3 and "gscpr_translation_error_m" in rows[0]


def test_a_trajectory_comes_back_as_one_and_further_stages_follow(place: Place, tmp_path: Path) -> None:
    stamps = np.array([float(name.split("-")[1].split(".")[0]) for name in place.truths])
    coarse = Trajectory(stamps, torch.stack(list(place.coarse().values())))
    write_tum_trajectory(tmp_path / "coarse.txt", coarse)
    words = ["-m", place.model, "--poses", tmp_path / "coarse.txt", "--output", tmp_path / "elsewhere"]
    refine(*words, "--stages", "gscpr", "lm")
    refined = read_tum_trajectory(tmp_path / "elsewhere" / "trajectory.txt")
    assert np.array_equal(refined.timestamps, stamps)
    for pose, truth in zip(refined.cam_from_world, place.truths.values()):
        assert pose_errors(pose, truth)[0] < 0.05


def test_a_folder_of_photos_needs_only_their_focal_length(place: Place, tmp_path: Path) -> None:
    name = next(iter(place.truths))
    scene = read_scene(place.scene)
    write_poses(tmp_path / "coarse.txt", [PoseRecord(name, place.coarse()[name])])
    camera = scene.test[0].camera
    refine(
        *("-m", place.model, "--poses", tmp_path / "coarse.txt", "--images", place.scene / "test" / "rgb"),
        *("--intrinsics", camera.fx, camera.fy, camera.cx, camera.cy, "--rounds", 1),
    )
    refined = read_poses(place.model / "refined" / "poses.txt")
    assert list(refined) == [Path(name).name]  # the other photo has no coarse pose
    found = refined[Path(name).name].cam_from_world
    assert pose_errors(found, place.truths[name])[0] < 0.05


def test_images_without_a_coarse_pose_count_as_failed(place: Place, tmp_path: Path) -> None:
    name, pose = next(iter(place.coarse().items()))
    write_poses(tmp_path / "coarse.txt", [PoseRecord(name, pose)])
    refine("-m", place.model, "--poses", tmp_path / "coarse.txt")
    figures = json.loads((place.model / "refined" / "metrics.json").read_text())
    assert (figures["count"], figures["failed"]) == (2, 1)
    assert figures["final"]["recall"]["10cm_5deg"] == 0.5


def test_a_photo_without_a_focal_length_is_one_line(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_poses(tmp_path / "coarse.txt", [PoseRecord(name, pose) for name, pose in place.coarse().items()])
    folder = place.scene / "test" / "rgb"
    line = fails(capsys, "-m", place.model, "--poses", tmp_path / "coarse.txt", "--images", folder)
    assert "pass --focal or --intrinsics" in line


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--rounds", 0), "see --rounds"),
        (("--exposure", "act"), "expected an exposure network"),
        (("--matcher", "roma"), "pip install romatch"),
        (("--stages", "nonsense"), "see --stages"),
        (("--device", "nonsense"), "expected a device"),
        (("--format", "colmap"), "expected a COLMAP model"),
        (("--split", "train"), "pass poses of this scene"),
    ],
)
def test_what_cannot_be_is_one_line(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "romatch", None)
    records = [PoseRecord(f"another-{Path(name).name}", pose) for name, pose in place.coarse().items()]
    if "--split" not in extra:
        records += [PoseRecord(name, pose) for name, pose in place.coarse().items()]
    write_poses(tmp_path / "coarse.txt", records)
    line = fails(capsys, "-m", place.model, "--poses", tmp_path / "coarse.txt", *extra)
    assert message in line


def test_a_folder_without_a_map_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a map" in fails(capsys, "-m", tmp_path, "--poses", tmp_path / "a.txt")


def test_wrong_usage_exits_with_2(place: Place) -> None:
    assert run("-m", place.model).returncode == 2


def test_flags_reach_the_options() -> None:
    line = "-m out --poses a.txt --rounds 3 --matcher lighterglue --relative --exposure affine --top_k 9"
    arguments = parse_refine_arguments([*line.split(), "--ransac_iters", "50", "--max_side", "320"])
    options = arguments.options()
    (gscpr,) = [item for item in options.settings if isinstance(item, GscprOptions)]
    assert options.initial == "given"
    assert (gscpr.rounds, gscpr.matcher, gscpr.relative, gscpr.exposure) == (3, "lighterglue", True, "affine")
    assert (options.top_k, options.max_side, gscpr.pnp.max_iterations) == (9, 320, 50)
    assert gscpr.pnp.loss_scale_px == 4.0
