"""train.py as people run it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Two threads on tensors this small only wait for each other.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
QUICK = ["--sh_degree", "0", "--init", "random", "--init_max_points", "60"]
QUICK += ["--max_gaussians", "80", "--densify_from_iter", "5", "--densification_interval", "10"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four 64x48 images of noise in blocks, in the posed-folder layout."""
    folder = tmp_path_factory.mktemp("scripts") / "scene"
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("rgb", "poses", "calibration"):
            (folder / split / name).mkdir(parents=True)
        for index in range(4):
            blocks = draws.integers(0, 255, (6, 8, 3)).astype(np.uint8)
            image = cv2.resize(blocks, (64, 48), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / split / "rgb" / f"{index}.color.png"), image)
            pose = np.eye(4)
            pose[0, 3] = 0.1 * index
            np.savetxt(folder / split / "poses" / f"{index}.pose.txt", pose)
            np.savetxt(folder / split / "calibration" / f"{index}.calibration.txt", [60.0])
    return folder


def command(scene: Path, output: Path, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), "-s", str(scene), "-m", str(output), *QUICK, *flags]


def run(scene: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(scene, output, *flags), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def final_files(output: Path, iteration: int) -> dict[str, bytes]:
    folder = output / "point_cloud" / f"iteration_{iteration}"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, f"train.py ended before {path.name} was written"
        assert time.monotonic() < deadline, f"{path.name} was never written"
        time.sleep(0.02)


def test_a_killed_run_resumes_to_the_same_bytes(scene: Path, tmp_path: Path) -> None:
    whole = run(scene, tmp_path / "whole", "--iterations", "40")
    assert whole.returncode == 0, whole.stderr
    flags = ["--iterations", "40", "--checkpoint_iterations", "15"]
    checkpoint = tmp_path / "killed" / "checkpoint_15.safetensors"
    process = subprocess.Popen(
        command(scene, tmp_path / "killed", *flags),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(checkpoint, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = run(scene, tmp_path / "killed", *flags, "--start_checkpoint", str(checkpoint))
    assert resumed.returncode == 0, resumed.stderr
    whole_files = final_files(tmp_path / "whole", 40)
    assert final_files(tmp_path / "killed", 40) == whole_files
    assert sorted(whole_files) == ["features.safetensors", "point_cloud.ply"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_the_run(scene: Path, tmp_path: Path, number: int, code: int) -> None:
    process = subprocess.Popen(
        command(scene, tmp_path, "--iterations", "1000000", "--save_iterations", "3"),
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "point_cloud" / "iteration_3" / "point_cloud.ply", process)  # type: ignore[arg-type]
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == code
    checkpoints = list(tmp_path.glob("checkpoint_*.safetensors"))
    assert len(checkpoints) == 1 and f"--start_checkpoint {checkpoints[0]}" in out


def test_a_users_error_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere", tmp_path / "map")
    assert result.returncode == 1
    assert result.stderr.startswith("error: expected a scene folder") and len(result.stderr.splitlines()) == 1


def test_quiet_prints_nothing(scene: Path, tmp_path: Path) -> None:
    result = run(scene, tmp_path, "--iterations", "2", "--quiet")
    assert result.returncode == 0
    assert result.stdout == "" and "%" not in result.stderr


def test_a_port_serves_a_live_view(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("viser")
    result = run(scene, tmp_path, "--iterations", "12", "--port", "8317")
    assert result.returncode == 0, result.stderr
    assert "live view  http://127.0.0.1:" in result.stdout
