"""Fixtures that every test folder may use."""

import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Let signals reach the tests that send them, and the scripts that they start.

    A shell starts its background jobs with SIGINT ignored, nohup with SIGHUP; children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip that says how to get it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GSPLATLOC_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set GSPLATLOC_DATA to a folder that holds it")
    return folder


@pytest.fixture(scope="session")
def room_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the synthetic room in layout 1, made once: 24 training and 6 test views of 192 x 160."""
    from gsplatloc.datasets.options import RoomOptions
    from gsplatloc.datasets.room import make_room

    folder = tmp_path_factory.mktemp("room")
    make_room(folder, RoomOptions(width=192, height=160, train=24, test=6, arc=0.3))
    return folder


@pytest.fixture(scope="session")
def room_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve views of 320 x 256 along two metres of the room's loop, in layout 1 without test views."""
    from gsplatloc.datasets.options import RoomOptions
    from gsplatloc.datasets.room import make_room

    folder = tmp_path_factory.mktemp("path")
    make_room(folder, RoomOptions(train=12, test=0, arc=0.3, supersampling=1))
    return folder
