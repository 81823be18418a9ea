"""Localized queries in the live view: where the cameras are, how certain, and how well each photo fits."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.localization.result import Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.images import decode_upright
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization import images
from gsplatloc.visualization.certainty import STATUS_COLORS
from gsplatloc.visualization.images import Image

_MOST_DRAWN = 300  # frustums with their photos, which are decoded at the start; the least certain
_THUMBNAIL = 160  # pixels, the width of the photo within a frustum
_WIDTH = 480  # pixels, the width of the photo beside the map
_SIGMAS = 3.0  # half axes of the ellipsoid of a camera centre, in standard deviations
ALL, NONE = "all queries", "no query"

Render = Callable[[Camera, Tensor], Image]  # a camera and its pose in the map -> its picture


class QueryPanel:
    """Frustums of localized queries, and the photo of the chosen one over the map rendered at its pose.

    A frustum is green where the pose is verified and orange where it is not. The ellipsoid around a camera
    holds three standard deviations of its centre. A click on a frustum, or the list, chooses a query.
    """

    def __init__(
        self,
        server: Any,
        queries: Sequence[LocalizedQuery],
        render: Render,
        frame: MapFrame,
        scale: float,
    ) -> None:
        """`frame`: the map's coordinates in the scene; `scale`: size of a frustum, in the map's unit."""
        self._server, self._render, self._frame = server, render, frame
        self._queries = {query.name: query for query in _least_certain_first(queries)}
        drawn = list(self._queries.values())[:_MOST_DRAWN]
        self._shapes = {query.name: self._draw(query, scale) for query in drawn}
        self._photo = self._rendering = np.zeros((1, 1, 3), np.uint8)
        with server.gui.add_folder(f"{len(queries)} localized queries"):
            names = (ALL, NONE, *self._queries)
            self._choice = server.gui.add_dropdown("show", names, hint="the least certain first")
            self._text = server.gui.add_markdown("")
            self._mix = server.gui.add_slider("photo to map", 0, 1, 0.05, 0.5, visible=False)
            self._picture = server.gui.add_image(self._photo, visible=False)

        @self._choice.on_update
        def _(_: object) -> None:
            self.choose(self._choice.value)

        @self._mix.on_update
        def _(_: object) -> None:
            self._mixed()

    def choose(self, name: str) -> None:
        """Show one query only, its photo beside the map, from its own place; or `ALL`, or `NONE`."""
        query = self._queries.get(name)
        for other, shapes in self._shapes.items():
            for shape in shapes:
                shape.visible = name in (ALL, other)
        self._picture.visible = self._mix.visible = query is not None
        self._text.content = "" if query is None else _described(query)
        if query is not None:
            self._move_to(query)
            self._show(query)

    def _move_to(self, query: LocalizedQuery) -> None:
        world_from_cam = se3.inverse(self._frame.pose_in_map(query.cam_from_world))
        for client in self._server.get_clients().values():
            with client.atomic():
                client.camera.wxyz = se3.quaternion_from_rotation(world_from_cam[:3, :3]).numpy()
                client.camera.position = world_from_cam[:3, 3].numpy()
                client.camera.fov = _field_of_view(query.camera)

    @property
    def picture(self) -> Image:
        """The picture beside the map."""
        return np.asarray(self._picture.image)

    def _show(self, query: LocalizedQuery) -> None:
        width = min(_WIDTH, query.camera.width)
        camera = query.camera.resized(width, round(query.camera.height * width / query.camera.width))
        self._rendering = self._render(camera, self._frame.pose_in_map(query.cam_from_world))
        photo = _photo(query)
        if photo is None:
            photo = self._rendering
            self._text.content += f"\n\nNo photo at {query.image}."
        self._photo = images.resize(photo, camera.width, camera.height)
        self._mixed()

    def _mixed(self) -> None:
        share = float(self._mix.value)
        mixed = (1 - share) * self._photo.astype(np.float32) + share * self._rendering
        self._picture.image = np.rint(mixed).astype(np.uint8)

    def _draw(self, query: LocalizedQuery, scale: float) -> list[Any]:
        """The frustum of a query, and the ellipsoid of its centre where that is known."""
        camera = query.camera
        world_from_cam = se3.inverse(self._frame.pose_in_map(query.cam_from_world))
        position = world_from_cam[:3, 3].numpy()
        photo = _photo(query)
        frustum = self._server.scene.add_camera_frustum(
            f"/queries/{query.name}",
            fov=_field_of_view(camera),
            aspect=camera.width / camera.height,
            scale=scale,
            thickness=2.5,
            thickness_units="screen",
            color=STATUS_COLORS[query.status],
            image=None if photo is None else _thumbnail(photo),
            wxyz=se3.quaternion_from_rotation(world_from_cam[:3, :3]).numpy(),
            position=position,
        )

        @frustum.on_click
        def _(_: object) -> None:
            self._choice.value = query.name

        if query.covariance is None:
            return [frustum]
        axes, rotation = center_ellipsoid(query.cam_from_world, query.covariance)
        axes = axes / self._frame.unit
        ellipsoid = self._server.scene.add_icosphere(
            f"/uncertainty/{query.name}",
            radius=1.0,
            scale=tuple(axes.tolist()),
            color=STATUS_COLORS[query.status],
            opacity=0.4,
            wxyz=se3.quaternion_from_rotation(rotation).numpy(),
            position=position,
        )
        return [frustum, ellipsoid]


def center_ellipsoid(cam_from_world: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Half axes [3], three standard deviations, and axes [3, 3] in the world, of a camera centre's ellipsoid.

    `covariance` [6, 6] is of xi = (rho, phi), which moves the centre by -R^T rho.
    """
    rotation = cam_from_world[:3, :3]
    variances, axes = torch.linalg.eigh(rotation.T @ covariance[:3, :3] @ rotation)
    if torch.det(axes) < 0:  # eigenvectors of a left-handed order
        axes = axes * torch.tensor([1.0, 1.0, -1.0], dtype=axes.dtype)
    return _SIGMAS * variances.clamp(min=0).sqrt(), axes


def _field_of_view(camera: Camera) -> float:
    """Of the image's height, radians."""
    return 2 * math.atan(camera.height / (2 * camera.fy))


def _least_certain_first(queries: Sequence[LocalizedQuery]) -> list[LocalizedQuery]:
    def uncertainty(query: LocalizedQuery) -> tuple[bool, float]:
        return query.status is Status.UNVERIFIED, query.expected_translation_m or 0.0

    return sorted(queries, key=uncertainty, reverse=True)


def _described(query: LocalizedQuery) -> str:
    rows = {"status": str(query.status)}
    if query.expected_translation_m is not None and query.expected_rotation_deg is not None:
        stated = f"{100 * query.expected_translation_m:.2g} cm, {query.expected_rotation_deg:.2g}°"
        rows["stated error"] = stated
    if query.translation_error_m is not None:
        rows["error"] = f"{100 * query.translation_error_m:.2g} cm"
    body = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"| | |\n|---|---:|\n{body}"


def _photo(query: LocalizedQuery) -> Image | None:
    try:
        return None if query.image is None else decode_upright(query.image)
    except (GSplatLocError, OSError):  # moved since then
        return None


def _thumbnail(photo: Image) -> Image:
    return images.resize(photo, _THUMBNAIL, max(1, round(photo.shape[0] * _THUMBNAIL / photo.shape[1])))
