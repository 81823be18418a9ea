"""track_rgbd.py as a user calls it, on a short TUM folder."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import gsplatloc
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.trajectory import read_tum_trajectory, write_tum_trajectory
from tests.tracking.conftest import CAMERA, look, make_clip

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 6


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of the corner in TUM layout."""
    pytest.importorskip("gsplatloc_kernels")
    root = tmp_path_factory.mktemp("corner")
    truth = make_clip(FRAMES).truth
    lists: dict[str, list[str]] = {"rgb": [], "depth": []}
    for index, pose in enumerate(truth.cam_from_world):
        image, depth = look(pose)
        for kind, pixels in (("rgb", image), ("depth", np.rint(depth * 5000).astype(np.uint16))):
            (root / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(root / kind / f"{index}.png"), pixels)
            lists[kind].append(f"{truth.timestamps[index]} {kind}/{index}.png\n")
    for kind, lines in lists.items():
        (root / f"{kind}.txt").write_text("".join(lines))
    write_tum_trajectory(root / "groundtruth.txt", truth)
    numbers = (CAMERA.fx, CAMERA.fy, CAMERA.cx - 0.5, CAMERA.cy - 0.5)
    (root / "calibration.txt").write_text(" ".join(map(str, numbers)))
    return root


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "track_rgbd.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_sequence_is_tracked_and_mapped(sequence: Path, tmp_path: Path) -> None:
    done = run("-s", sequence, "-m", tmp_path, "--frames.side", 160, "--quiet")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frames"] == FRAMES and metrics["lost"] == 0
    assert metrics["ate_rmse_m"] < 0.002
    assert len(read_tum_trajectory(tmp_path / "trajectory.txt")) == FRAMES
    assert len(load_gaussians(tmp_path)) == metrics["gaussians"]
    assert cv2.imread(str(tmp_path / "map.png")) is not None
    assert cv2.imread(str(tmp_path / "trajectory.png")) is not None


def test_a_sequence_without_truth_is_tracked_from_the_origin(sequence: Path, tmp_path: Path) -> None:
    (sequence / "groundtruth.txt").rename(sequence / "hidden")
    try:
        done = run("-s", sequence, "-m", tmp_path, "--frames.side", 160, "--last", 2, "--quiet")
    finally:
        (sequence / "hidden").rename(sequence / "groundtruth.txt")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frames"] == 3 and "ate_rmse_m" not in metrics
    assert read_tum_trajectory(tmp_path / "trajectory.txt").cam_from_world[0].diag().tolist() == [1, 1, 1, 1]


def test_python_tracks_from_folder_to_folder(sequence: Path, tmp_path: Path) -> None:
    result = gsplatloc.track(sequence, tmp_path, quiet=True)
    assert len(result.trajectory) == FRAMES and result.error is not None
    assert len(load_gaussians(tmp_path)) == len(result.surface)


def test_the_help_shows_settings_of_tracking_only() -> None:
    text = run("--help").stdout
    assert "--depth_weight" in text and "render" not in text.replace("rendered depth", "")


def test_the_published_method_runs(sequence: Path, tmp_path: Path) -> None:
    flags = ["--method", "gsplatloc", "--gsplatloc.iterations", 5, "--frames.side", 160, "--last", 2]
    done = run("-s", sequence, "-m", tmp_path, *flags, "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["method"] == "gsplatloc"


def test_a_range_without_frames_is_a_users_error(sequence: Path, tmp_path: Path) -> None:
    done = run("-s", sequence, "-m", tmp_path, "--first", 50)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected at least two images with depth")
    assert done.stderr.count("\n") == 1


def test_a_folder_without_a_sequence_is_a_users_error(tmp_path: Path) -> None:
    done = run("-s", tmp_path, "-m", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1


def test_wrong_usage_exits_with_2() -> None:
    assert run("--method", "magic").returncode == 2
