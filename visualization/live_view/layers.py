"""Further things to see in the live view, each with a box to show or hide it: landmarks and trajectories."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.utils import se3
from gsplatloc.visualization import images
from gsplatloc.visualization.images import RGB

_MOST_LANDMARKS = 100_000
_MANY_VIEWS = 20.0  # a landmark seen from this many mapping views has the brightest colour
_POINT = 0.15  # size of a landmark, of a frustum's


def add_landmarks(server: Any, landmarks: Landmarks, scale: float) -> Any:
    """Landmarks as points, brighter the more mapping views saw them; hidden at first.

    `scale` is the size of a camera's frustum. Returns the box that shows them.
    """
    shown = landmarks.select(slice(_MOST_LANDMARKS))  # the most often observed come first
    views = shown.lengths.float().cpu().numpy()[None]
    points = server.scene.add_point_cloud(
        "/landmarks",
        shown.positions.float().cpu().numpy(),
        images.colorize(views, 0.0, _MANY_VIEWS, cv2.COLORMAP_VIRIDIS)[0],
        point_size=_POINT * scale,
        point_shape="circle",
        precision="float32",
        visible=False,
    )
    return _box(server, f"{len(landmarks):,} landmarks", points, visible=False)


def add_trajectory(server: Any, name: str, cam_from_map: Tensor, color: RGB) -> Any:
    """The path of a camera, poses [N, 4, 4], as a line. Returns the box that shows it."""
    centers = se3.camera_center(cam_from_map).float().cpu().numpy()
    lines = np.stack([centers[:-1], centers[1:]], 1)  # [N - 1, 2, 3]
    path = server.scene.add_line_segments(
        f"/trajectories/{name}", lines, color, thickness=2.5, thickness_units="screen"
    )
    return _box(server, name, path, visible=True)


def add_frustum_box(server: Any, frustums: Sequence[Any]) -> Any:
    """A box that shows the frustums of the mapping cameras."""
    return _box(server, "cameras", *frustums, visible=True)


def _box(server: Any, label: str, *shapes: Any, visible: bool) -> Any:
    box = server.gui.add_checkbox(label, visible)

    @box.on_update
    def _(_: object) -> None:
        for shape in shapes:
            shape.visible = box.value

    return box
