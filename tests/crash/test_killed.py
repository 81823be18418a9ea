"""Runs that are killed or stopped at random moments: no half-written file, and the same result in the end."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.support import ROOM, Ended, check_end, check_files, moments, remains, run

SIGNALS = [signal.SIGKILL, signal.SIGTERM]
ITERATIONS = 30
TRAIN = ["--iterations", ITERATIONS, "--checkpoint_iterations", *range(5, ITERATIONS, 5), "--sh_degree", 0]
TRAIN += ["--init", "random", "--init_max_points", 60, "--max_gaussians", 80, "--descriptors", "aggregated"]
TRAIN += ["--densify_from_iter", 5, "--densification_interval", 10, "--quiet"]


@pytest.fixture(scope="module")
def mapped(room: tuple[Path, Ended]) -> tuple[Path, Ended]:
    folder = room[0].parent
    ended = run(["train", "-s", room[0], "-m", folder / "map", *TRAIN], folder / "map.log")
    assert ended.code == 0, ended.said
    return folder / "map", ended


@pytest.fixture(scope="module")
def localized(mapped: tuple[Path, Ended]) -> tuple[Path, Ended]:
    folder = mapped[0].parent / "localized"
    shutil.copytree(mapped[0], folder)
    ended = run(["localize", "-m", folder, "--quiet"], folder.with_suffix(".log"))
    assert ended.code == 0, ended.said
    return folder, ended


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    paths = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def interrupt(name: str, whole: Ended, number: int, words: Callable[[], list], folder: Path) -> None:
    """Start and kill the command at every moment, then let it end; `words` returns the next command line."""
    log = folder.with_name(f"{folder.name}.log")
    for moment in moments(f"{name} {signal.Signals(number).name}", whole.seconds):
        check_end(run(words(), log, number, moment), number)
        check_files(folder)
    last = run(words(), log)
    assert last.code == 0, last.said
    assert remains(folder.parent) == [], "a temporary file or a lock"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_map_is_the_same_after_it_was_interrupted(
    mapped: tuple[Path, Ended], room: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "map"

    def words() -> list:
        numbers = [int(path.stem.rpartition("_")[2]) for path in output.glob("checkpoint_*.safetensors")]
        last = max(numbers, default=0)
        resumed = ["--start_checkpoint", output / f"checkpoint_{last}.safetensors"] if last else []
        return ["train", "-s", room[0], "-m", output, *TRAIN, *resumed]

    interrupt("train", mapped[1], number, words, output)
    files = ("landmarks.safetensors", "cameras.json", f"point_cloud/iteration_{ITERATIONS}/*")
    expected = contents(mapped[0], *files)
    assert len(expected) == 4 and contents(output, *files) == expected


@pytest.mark.parametrize("number", SIGNALS)
def test_localization_is_the_same_after_it_was_interrupted(
    localized: tuple[Path, Ended], mapped: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "map"
    shutil.copytree(mapped[0], output)
    interrupt("localize", localized[1], number, lambda: ["localize", "-m", output, "--quiet"], output)
    files = ("localization/poses.txt", "*.safetensors", "point_cloud/*/*", "config.json")
    assert contents(output, *files) == contents(localized[0], *files)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_room_is_the_same_after_it_was_interrupted(
    room: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "room"
    interrupt("setup", room[1], number, lambda: ["setup", "room", "--output", output, *ROOM], output)
    assert contents(output, "**/*") == contents(room[0], "**/*")
