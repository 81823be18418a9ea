"""Runs that are killed or stopped at random moments: no half-written file, and the same result in the end."""

import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.crash.support import ROOM, Ended, contents, interrupt, run

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


@pytest.mark.parametrize("number", SIGNALS)
def test_a_map_is_the_same_after_it_was_interrupted(
    mapped: tuple[Path, Ended], room: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "map"

    def command(**ending: float) -> Ended:
        numbers = [int(path.stem.rpartition("_")[2]) for path in output.glob("checkpoint_*.safetensors")]
        last = max(numbers, default=0)
        resumed = ["--start_checkpoint", output / f"checkpoint_{last}.safetensors"] if last else []
        words = ["train", "-s", room[0], "-m", output, *TRAIN, *resumed]
        return run(words, tmp_path / "log", **ending)  # type: ignore[arg-type]

    interrupt("train", number, command, mapped[1], output, output.mkdir)
    files = ("landmarks.safetensors", "cameras.json", f"point_cloud/iteration_{ITERATIONS}/*")
    expected = contents(mapped[0], *files)
    assert len(expected) == 4 and contents(output, *files) == expected


@pytest.mark.parametrize("number", SIGNALS)
def test_localization_is_the_same_after_it_was_interrupted(
    localized: tuple[Path, Ended], mapped: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "map"
    words = ["localize", "-m", output, "--quiet"]
    command = partial(run, words, tmp_path / "log")
    interrupt("localize", number, command, localized[1], output, lambda: shutil.copytree(mapped[0], output))
    files = ("localization/poses.txt", "*.safetensors", "point_cloud/*/*", "config.json")
    assert contents(output, *files) == contents(localized[0], *files)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_room_is_the_same_after_it_was_interrupted(
    room: tuple[Path, Ended], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "room"
    words = ["setup", "room", "--output", output, *ROOM]
    interrupt("setup", number, partial(run, words, tmp_path / "log"), room[1], output)
    assert contents(output, "**/*") == contents(room[0], "**/*")
