"""A localized query in the scene of the live view: frustum with photo, ellipsoid of its centre, matches."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.visualization import images
from gsplatloc.visualization.certainty import STATUS_COLORS
from gsplatloc.visualization.images import RGB, Image

INLIER: RGB = (70, 222, 120)
OUTLIER: RGB = (235, 87, 87)
_THUMBNAIL = 160  # pixels, the width of the photo within a frustum
_SIGMAS = 3.0  # half axes of the ellipsoid of a camera centre, in standard deviations


class QueryShapes:
    """The frustum of a query with its photo and, where it is known, the ellipsoid of its centre."""

    def __init__(
        self,
        scene: Any,
        query: LocalizedQuery,
        photo: Image | None,
        frame: MapFrame,
        scale: float,
        on_click: Callable[[], None],
    ) -> None:
        """`frame`: the map's coordinates in the scene; `scale`: size of the frustum in the map's unit."""
        camera = query.camera
        world_from_cam = se3.inverse(frame.pose_in_map(query.cam_from_world))
        self._photo = None if photo is None else _thumbnail(photo)
        self.frustum = scene.add_camera_frustum(
            f"/queries/{query.name}",
            fov=field_of_view(camera),
            aspect=camera.width / camera.height,
            scale=scale,
            thickness=2.5,
            thickness_units="screen",
            color=STATUS_COLORS[query.status],
            image=self._photo,
            wxyz=se3.quaternion_from_rotation(world_from_cam[:3, :3]).numpy(),
            position=world_from_cam[:3, 3].numpy(),
        )
        self.frustum.on_click(lambda _: on_click())
        self._has_photo, self.ellipsoid = True, None
        if query.covariance is not None:
            axes, rotation = center_ellipsoid(query.cam_from_world, query.covariance)
            self.ellipsoid = scene.add_icosphere(
                f"/uncertainty/{query.name}",
                radius=1.0,
                scale=tuple((axes / frame.unit).tolist()),
                color=STATUS_COLORS[query.status],
                opacity=0.4,
                wxyz=se3.quaternion_from_rotation(rotation).numpy(),
                position=self.frustum.position,
            )

    def show(self, visible: bool, with_photo: bool) -> None:
        """Show or hide the shapes; seen from the query's own pose, its photo would hide the map."""
        if with_photo != self._has_photo:
            self.frustum.image = self._photo if with_photo else None
            self._has_photo = with_photo
        self.frustum.visible = visible
        if self.ellipsoid is not None:
            self.ellipsoid.visible = visible

    def remove(self) -> None:
        """Remove the shapes from the scene."""
        self.frustum.remove()
        if self.ellipsoid is not None:
            self.ellipsoid.remove()


def draw_matches(scene: Any, query: LocalizedQuery, frame: MapFrame) -> Any:
    """Lines from a query's camera to the points of the map that it matched; inliers green, others red.

    None for a query without matches.
    """
    matches = query.matches
    if matches is None or not len(matches):
        return None
    center = se3.camera_center(frame.pose_in_map(query.cam_from_world)).numpy()
    points = frame.points_in_map(matches.points)
    lines = np.stack([np.broadcast_to(center, points.shape), points], 1)  # [M, 2, 3]
    colors = np.where(matches.inliers[:, None], INLIER, OUTLIER).astype(np.uint8)
    return scene.add_line_segments(
        "/matches",
        lines.astype(np.float32),
        np.repeat(colors[:, None], 2, 1),
        thickness=1.0,
        thickness_units="screen",
    )


def center_ellipsoid(cam_from_world: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Half axes [3], three standard deviations, and axes [3, 3] in the world, of a camera centre's ellipsoid.

    `covariance` [6, 6] is of xi = (rho, phi), which moves the centre by -R^T rho.
    """
    rotation = cam_from_world[:3, :3]
    variances, axes = torch.linalg.eigh(rotation.T @ covariance[:3, :3] @ rotation)
    if torch.det(axes) < 0:  # eigenvectors of a left-handed order
        axes = axes * torch.tensor([1.0, 1.0, -1.0], dtype=axes.dtype)
    return _SIGMAS * variances.clamp(min=0).sqrt(), axes


def field_of_view(camera: Camera) -> float:
    """Of the image's height, radians."""
    return 2 * math.atan(camera.height / (2 * camera.fy))


def _thumbnail(photo: Image) -> Image:
    return images.resize(photo, _THUMBNAIL, max(1, round(photo.shape[0] * _THUMBNAIL / photo.shape[1])))
