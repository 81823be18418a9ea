"""Pictures rendered for browsers: from each browser's own camera, coarse while it moves."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3
from gsplatloc.visualization.live_view.rendered_view import IN_BROWSER, RenderedView
from gsplatloc.visualization.live_view.server import start_server
from tests.visualization.live_view.test_viewer import free_port


class Client:
    """A browser that stands at (1, 2, 3) and looks along x, and its background."""

    def __init__(self) -> None:
        world_from_cam = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]).double()
        self.camera = SimpleNamespace(
            image_width=1000, aspect=2.0, fov=np.pi / 2, position=np.array([1.0, 2, 3]),
            wxyz=se3.quaternion_from_rotation(world_from_cam).numpy(),
            on_update=lambda call: setattr(self, "moved", call),
        )  # fmt: skip
        self.scene = SimpleNamespace(set_background_image=self._show)
        self.moved: Callable[[object], None] = lambda _: None
        self.shown: list[Any] = []
        self.changed = threading.Condition()

    def _show(self, image: Any, **_: object) -> None:
        with self.changed:
            self.shown.append(image)
            self.changed.notify_all()

    def wait_for(self, holds: Callable[[list[Any]], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self.shown), timeout=20)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RenderedView, Client, list[Any], list[bool]]]:
    pytest.importorskip("viser")
    server, client = start_server("127.0.0.1", free_port()), Client()
    monkeypatch.setattr(server, "get_clients", lambda: {0: client})
    drawn: list[Any] = []
    splats: list[bool] = []

    def draw(camera: Camera, cam_from_map: torch.Tensor, kind: str) -> np.ndarray:
        drawn.append((camera, cam_from_map, kind))
        return np.zeros((camera.height, camera.width, 3), np.uint8)

    view = RenderedView(server, draw, ("rgb", "depth"), splats.append)
    view._follow(client)
    yield view, client, drawn, splats
    view.close()
    server.stop()


def test_the_map_is_drawn_from_the_camera_of_the_browser(served: Any) -> None:
    view, client, drawn, splats = served
    view.choose("depth")
    client.wait_for(lambda shown: len(shown) > 0)
    camera, pose, kind = drawn[0]
    assert kind == "depth" and splats == [False]
    assert camera.fy == pytest.approx(camera.height / 2)
    assert camera.width == pytest.approx(2 * camera.height)
    torch.testing.assert_close(se3.camera_center(pose), torch.tensor([1.0, 2, 3]).double())
    torch.testing.assert_close(pose[2, :3], torch.tensor([1.0, 0, 0]).double())  # the viewing direction


def test_pictures_are_coarse_during_movement_and_fine_after_it(served: Any) -> None:
    view, client, _, _ = served
    view.choose("rgb")
    client.wait_for(lambda shown: len(shown) > 0 and shown[-1].shape[1] == 1000)
    before = len(client.shown)
    client.moved(None)
    client.wait_for(lambda shown: len(shown) >= before + 2)
    assert client.shown[before].shape[1] == 480
    client.wait_for(lambda shown: shown[-1].shape[1] == 1000)


def test_the_browser_draws_again_when_asked_to(served: Any) -> None:
    view, client, _, splats = served
    view.choose("rgb")
    client.wait_for(lambda shown: len(shown) > 0)
    view.choose(IN_BROWSER)
    client.wait_for(lambda shown: shown[-1] is None)
    assert splats == [False, True]
