"""The map rendered here and sent as pictures: for browsers without a GPU, and for depth and descriptors."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gsplatloc.localization.queries import centered_camera
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3
from gsplatloc.visualization.images import Image

IN_BROWSER = "splats, drawn by the browser"
_COARSE_WIDTH = 480  # pixels, while the view moves
_FINE_WIDTH = 1280  # pixels, at most, when the view has not moved for a while
_STILL = 0.3  # seconds without movement


class RenderedView:
    """A list of kinds of pictures; a chosen one is rendered for each browser's own camera as it moves."""

    def __init__(
        self,
        server: Any,
        draw: Callable[[Camera, Tensor, str], Image],
        kinds: Sequence[str],
        show_splats: Callable[[bool], None],
    ) -> None:
        """`draw`: see `query_panel.Draw`; `show_splats` turns the browser's own drawing on or off."""
        self._server, self._draw_picture, self._show_splats = server, draw, show_splats
        self._moved, self._closed = threading.Event(), False
        self._kind = server.gui.add_dropdown(
            "map as", (IN_BROWSER, *kinds), hint="rendered here, and sent: also without a GPU in the browser"
        )
        self._kind.on_update(lambda _: self._switch())
        server.on_client_connect(self._follow)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def choose(self, kind: str) -> None:
        """Draw the map as `kind`, one of `kinds` or `IN_BROWSER`."""
        self._kind.value = kind

    def close(self) -> None:
        """Stop drawing."""
        self._closed = True
        self._moved.set()
        self._thread.join(timeout=5)

    def _follow(self, client: Any) -> None:
        client.camera.on_update(lambda _: self._moved.set())
        self._moved.set()

    def _switch(self) -> None:
        self._show_splats(self._kind.value == IN_BROWSER)
        if self._kind.value == IN_BROWSER:
            for client in self._server.get_clients().values():
                client.scene.set_background_image(None)
        self._moved.set()

    def _run(self) -> None:
        fine = True  # whether the last pictures were
        while not self._closed:
            moved = self._moved.wait(None if fine else _STILL)
            self._moved.clear()
            if self._closed or self._kind.value == IN_BROWSER:
                fine = True
                continue
            fine = not moved
            for client in self._server.get_clients().values():
                self._draw(client, self._kind.value, _FINE_WIDTH if fine else _COARSE_WIDTH)

    def _draw(self, client: Any, kind: str, most: int) -> None:
        seen = client.camera
        width = min(most, seen.image_width or most)
        height = max(1, round(width / seen.aspect))
        camera = centered_camera(width, height, height / (2 * math.tan(seen.fov / 2)))
        rotation = se3.rotation_from_quaternion(torch.tensor(seen.wxyz, dtype=torch.float64))
        center = torch.tensor(seen.position, dtype=torch.float64)
        pose = se3.inverse(se3.from_rotation_translation(rotation, center))
        picture = self._draw_picture(camera, pose, kind)
        if self._kind.value == kind:  # still
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=85)
