"""A server of the live view, for the parts that draw on it."""

from collections.abc import Iterator
from typing import Any

import pytest

from gsplatloc.visualization.live_view.server import start_server
from tests.visualization.live_view.test_viewer import free_port


@pytest.fixture
def server() -> Iterator[Any]:
    pytest.importorskip("viser")
    server = start_server("127.0.0.1", free_port())
    yield server
    server.stop()
