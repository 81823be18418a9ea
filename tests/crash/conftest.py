"""The scene that is mapped and localized in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.support import ROOM, Ended, run


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tensors this small only wait for each other."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A tiny synthetic room, and how long it took to make."""
    folder = tmp_path_factory.mktemp("crash")
    run(["--version"], folder / "version.log")  # starts the server, which is not to be measured
    ended = run(["setup", "room", "--output", folder / "room", *ROOM], folder / "room.log")
    assert ended.code == 0, ended.said
    return folder / "room", ended
