"""Runs that are killed or stopped at random moments: no half-written file, and the same result in the end."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.support import MOMENTS, ROOM, Ended, check_end, check_files, generator, remains, run

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


def interrupt(
    whole: Ended, number: int, words: Callable[[], list], folder: Path, begin: Callable[[], object]
) -> None:
    """Start and kill the command at random moments of a run, then let it end.

    `words` returns the next command line. A run that ended before its signal came does not count; the next
    one begins anew, from what `begin` makes of the folder.
    """
    log = folder.with_name(f"{folder.name}.log")
    title = f"{words()[0]} {signal.Signals(number).name}"
    chance, most = generator(title), whole.seconds
    slowest, hits, runs = 0.0, 0, 0
    begin()
    while hits < MOMENTS and runs < 10 + 4 * MOMENTS:
        moment = chance.uniform(0, most)
        ended = run(words(), log, number, moment)
        check_end(ended, number)
        check_files(folder)
        runs += 1
        if ended.code == 0:
            most = min(most, moment)  # it was slower while it was measured, or had less left to do
            shutil.rmtree(folder)
            begin()
        else:
            hits, slowest = hits + 1, max(slowest, ended.seconds)
    print(f"{title}: {hits} signals in {runs} runs, the slowest end after {slowest:.2f} s", flush=True)
    assert hits == MOMENTS
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

    interrupt(mapped[1], number, words, output, output.mkdir)
    files = ("landmarks.safetensors", "cameras.json", f"point_cloud/iteration_{ITERATIONS}/*")
    expected = contents(mapped[0], *files)
    assert len(expected) == 4 and contents(output, *files) == expected


@pytest.mark.parametrize("number", SIGNALS)
def test_localization_is_the_same_after_it_was_interrupted(
    localized: tuple[Path, Ended], mapped: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "map"
    words = ["localize", "-m", output, "--quiet"]
    interrupt(localized[1], number, lambda: words, output, lambda: shutil.copytree(mapped[0], output))
    files = ("localization/poses.txt", "*.safetensors", "point_cloud/*/*", "config.json")
    assert contents(output, *files) == contents(localized[0], *files)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_room_is_the_same_after_it_was_interrupted(
    room: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "room"
    words = ["setup", "room", "--output", output, *ROOM]
    interrupt(room[1], number, lambda: words, output, lambda: None)
    assert contents(output, "**/*") == contents(room[0], "**/*")
