"""A full or read-only disk is one line and exit code 1; what was written before stays whole."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.support import ROOM, Ended, check_files, remains, run

TRAIN = ["--iterations", 4, "--checkpoint_iterations", 2, "--sh_degree", 0, "--init", "random"]
TRAIN += ["--init_max_points", 2000, "--descriptors", "none", "--quiet"]


@pytest.fixture
def scene(room: tuple[Path, Ended]) -> Path:
    return room[0]


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, in memory, or a skip where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no command `mount`")
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(params=["4k", "60k", "200k", "420k"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", f"size={request.param}")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=4k,ro")


def check_line(code: int | None, said: str) -> None:
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 1 and len(lines) == 1 and "Traceback" not in said, said


def test_a_full_disk_ends_mapping_with_one_line(scene: Path, small_disk: Path, tmp_path: Path) -> None:
    ended = run(["train", "-s", scene, "-m", small_disk / "map", *TRAIN], tmp_path / "log")
    check_line(ended.code, ended.said)
    assert "No space left on device; free some space" in ended.said
    check_files(small_disk)
    assert remains(small_disk) == []


def test_a_limit_on_the_size_of_files_is_one_line(scene: Path, tmp_path: Path) -> None:
    """As quotas do; this works where nothing can be mounted."""
    ended = run(["train", "-s", scene, "-m", tmp_path / "map", *TRAIN], tmp_path / "log", file_bytes=30_000)
    check_line(ended.code, ended.said)
    assert "File too large; free some space" in ended.said and remains(tmp_path) == []


@pytest.mark.parametrize("command", ["train", "setup"])
def test_a_read_only_disk_is_one_line_before_any_work(
    scene: Path, full_disk: Path, tmp_path: Path, command: str
) -> None:
    words = ["train", "-s", scene, "-m", full_disk / "map", *TRAIN]
    if command == "setup":
        words = ["setup", "room", "--output", full_disk / "room", *ROOM]
    ended = run(words, tmp_path / "log")
    check_line(ended.code, ended.said)
    refused = "Read-only file system" in ended.said or "can be written" in ended.said
    assert refused and "features" not in ended.said


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_second_run_into_the_same_map_is_one_line(scene: Path, tmp_path: Path) -> None:
    from gsplatloc.utils.locks import output_folder

    words = ["train", "-s", scene, "-m", tmp_path / "map", *TRAIN]
    with output_folder(tmp_path / "map"):
        ended = run(words, tmp_path / "log")
    check_line(ended.code, ended.said)
    assert f"found process {os.getpid()} on " in ended.said
    assert run(words, tmp_path / "log").code == 0


COLMAP = """
from pathlib import Path
from gsplatloc.datasets import structure_from_motion as motion
from gsplatloc.utils.console import run_script
motion.check_free_space = lambda *_: None  # another program fills the disk afterwards
options = motion.MappingOptions(max_features=2000)
run_script(lambda: motion.reconstruct(Path({images!r}), Path({disk!r}, "model"), Path({disk!r}), 5, options))
"""


@pytest.fixture(params=["60k", "300k"])
def tiny_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", f"size={request.param}")


def test_a_disk_that_fills_while_colmap_works_is_one_line(scene: Path, tiny_disk: Path) -> None:
    """COLMAP's threads catch no exceptions: the process was aborted."""
    code = COLMAP.format(images=str(scene / "train" / "rgb"), disk=str(tiny_disk))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    check_line(done.returncode, done.stderr)
    assert "expected COLMAP to write its database and models" in done.stderr
