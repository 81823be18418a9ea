"""render.py and view.py as a user calls them, on a map of a few Gaussians."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import write_cameras
from gsplatloc.utils import se3

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def map_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty Gaussians in front of three cameras of 64 x 48."""
    pytest.importorskip("gsplatloc_kernels")
    folder = tmp_path_factory.mktemp("map")
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(40, 3, generator=generator) * torch.tensor([2.0, 1.5, 1.0])
    gaussians = Gaussians(
        means=positions + torch.tensor([-1.0, -0.75, 2.0]),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).expand(40, 4),
        log_scales=torch.full((40, 3), -2.5),
        opacity_logits=torch.full((40,), 3.0),
        sh=torch.randn(40, 1, 3, generator=generator),
        features=torch.randn(40, 8, generator=generator),
    )
    save_gaussians(folder, 10, gaussians)
    tangents = torch.zeros(3, 6, dtype=torch.float64)
    tangents[:, 0] = torch.linspace(-0.2, 0.2, 3)
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
    poses = se3.se3_exp(tangents)
    views = [View(f"seq/{i}.jpg", camera, pose, Path(), lambda: None) for i, pose in enumerate(poses)]
    write_cameras(folder, views)
    return folder


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_training_cameras_are_rendered_in_three_kinds(map_dir: Path, tmp_path: Path) -> None:
    done = run("render.py", "-m", map_dir, "--split", "train", "--output", tmp_path, "--no_video")
    assert done.returncode == 0, done.stderr
    for kind in ("rgb", "depth", "features"):
        image = cv2.imread(str(tmp_path / kind / "seq" / "1.png"))
        assert image.shape == (48, 64, 3) and np.ptp(image) > 50


def test_path_has_as_many_frames_as_asked_for(map_dir: Path, tmp_path: Path) -> None:
    flags = ["--frames", 5, "--no_depth", "--no_features", "--no_video", "--output", tmp_path]
    done = run("render.py", "-m", map_dir, *flags)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((tmp_path / "rgb").iterdir())] == [f"{i:05d}.png" for i in range(5)]
    assert not (tmp_path / "depth").exists()


def test_film_shows_all_kinds_side_by_side(map_dir: Path, tmp_path: Path) -> None:
    done = run("render.py", "-m", map_dir, "--frames", 3, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    if not film.isOpened():
        pytest.skip("this OpenCV encodes no .mp4")
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 3 * 64


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX can")
def test_a_film_that_the_disk_has_no_room_for_is_an_error(map_dir: Path, tmp_path: Path) -> None:
    """The encoder reports nothing; the film was cut and the exit code 0."""
    words = ["-m", map_dir, "--frames", 90, "--output", tmp_path]
    command = ["bash", "-c", 'ulimit -f 20; exec "$@"', "-", sys.executable, ROOT / "render.py", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    if "no film" in done.stdout:
        pytest.skip("this OpenCV encodes no .mp4")
    assert done.returncode == 1
    assert "error: expected to write a film of 90 frames" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*.mp4")] == []
    assert len(list((tmp_path / "rgb").iterdir())) == 90


def test_a_folder_without_a_map_is_a_users_error(tmp_path: Path) -> None:
    done = run("render.py", "-m", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected a map") and done.stderr.count("\n") == 1


def test_wrong_usage_exits_with_2() -> None:
    assert run("render.py", "--split", "train").returncode == 2


def test_view_serves_a_page_until_it_is_interrupted(map_dir: Path) -> None:
    pytest.importorskip("viser")
    port = str(20_000 + os.getpid() % 20_000)
    command = [sys.executable, "-u", str(ROOT / "view.py"), "-m", str(map_dir), "--port", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line.startswith("live view  http://127.0.0.1:")
            with urllib.request.urlopen(line.split()[-1], timeout=10) as reply:
                assert reply.status == 200
            time.sleep(0.5)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()  # leaving the block waits for it
                raise
    assert process.returncode == 130
