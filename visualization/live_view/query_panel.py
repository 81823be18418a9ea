"""Localized queries in the live view: where the cameras are, how certain, and how well each photo fits."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.localization.result import Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.images import decode_upright
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.utils.console import figures, length
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization import images
from gsplatloc.visualization.images import Image
from gsplatloc.visualization.live_view.query_shapes import (
    INLIER,
    OUTLIER,
    QueryShapes,
    draw_matches,
    field_of_view,
)

_MOST_DRAWN = 300  # frustums with their photos, which are decoded at the start; the least certain
_WIDTH = 480  # pixels, the width of the photo beside the map
_FULL_DIFFERENCE = 96  # grey levels between photo and map that have the brightest colour
ALL, NONE = "all queries", "no query"
FINAL = "final"  # instead of a stage
COLOR = "rgb"  # a kind of picture
DIFFERENCE = "difference"  # another one, which needs the photo as well

Draw = Callable[[Camera, Tensor, str], Image]  # a camera, its pose in the map, a kind -> the picture


class QueryPanel:
    """Frustums of localized queries, and the photo of the chosen one over the map rendered at its pose.

    A frustum is green where the pose is verified and orange where it is not. The ellipsoid around a camera
    holds three standard deviations of its centre. A click on a frustum, or the list, chooses a query. The
    pose of each of its stages can be looked at, and the map drawn there in each of `kinds`.
    """

    def __init__(
        self,
        server: Any,
        queries: Sequence[LocalizedQuery],
        draw: Draw,
        kinds: Sequence[str],
        frame: MapFrame,
        scale: float,
        metric: bool = True,
    ) -> None:
        """`frame`: the map's coordinates in the scene; `scale`: size of a frustum, in the map's unit.

        `metric`: whether that unit is a metre.
        """
        self._server, self._draw, self._frame, self._scale = server, draw, frame, scale
        self._metric = metric
        self._queries = {query.name: query for query in _least_certain_first(queries)}
        self._shapes = {query.name: self._shaped(query) for query in [*self._queries.values()][:_MOST_DRAWN]}
        self._chosen = ALL
        self._lines: Any = None  # of the matches of the chosen query
        self._lock = threading.RLock()  # viser calls from several threads
        self._photo = self._dotted = self._rendering = np.zeros((1, 1, 3), np.uint8)
        gui = server.gui
        with gui.add_folder("localized queries"):
            self._choice = gui.add_dropdown("show", self._names(), hint="the least certain first")
            self._text = gui.add_markdown("")
            self._stage = gui.add_dropdown("stage", (FINAL,), visible=False)
            self._kind = gui.add_dropdown("compare with", (*kinds, DIFFERENCE), visible=False)
            self._mix = gui.add_slider("photo to map", 0, 1, 0.05, 0.5, visible=False)
            self._picture = gui.add_image(self._photo, visible=False)
        self._choice.on_update(lambda _: self._choose_listed())
        self._stage.on_update(lambda _: self._show_stage(move=True))
        self._kind.on_update(lambda _: self._show_stage(move=False))
        self._mix.on_update(lambda _: self._mixed())

    def add(self, query: LocalizedQuery) -> None:
        """One more query, which takes the place of one of the same name, and choose it."""
        if query.name in self._shapes:
            self._shapes[query.name].remove()
        self._queries = {**self._queries, query.name: query}
        self._shapes[query.name] = self._shaped(query)
        self._choice.options = self._names()
        self.choose(query.name)

    def choose(self, name: str) -> None:
        """Show one query only, its photo beside the map, from its own place; or `ALL`, or `NONE`."""
        with self._lock:
            query = self._queries.get(name)
            self._chosen = self._choice.value = name
            for other, shapes in self._shapes.items():
                shapes.show(name in (ALL, other), with_photo=other != name)
            for control in (self._picture, self._mix, self._kind):
                control.visible = query is not None
            self._text.content = "" if query is None else _described(query, self._metric)
            if self._lines is not None:
                self._lines.remove()
            self._lines = None if query is None else draw_matches(self._server.scene, query, self._frame)
            stages = () if query is None else tuple(query.stages)
            self._stage.visible = len(stages) > 1
            self._stage.options = (FINAL, *stages)
            self._stage.value = FINAL
            if query is not None:
                self._load(query)
                self._show_stage(move=True)

    @property
    def picture(self) -> Image:
        """The picture beside the map."""
        return np.asarray(self._picture.image)

    def _choose_listed(self) -> None:
        if self._choice.value != self._chosen:  # else it was set by `choose`
            self.choose(self._choice.value)

    def _names(self) -> tuple[str, ...]:
        return (ALL, NONE, *self._queries)

    def _shaped(self, query: LocalizedQuery) -> QueryShapes:
        def click() -> None:
            self._choice.value = query.name

        return QueryShapes(self._server.scene, query, _photo(query), self._frame, self._scale, click)

    def _load(self, query: LocalizedQuery) -> None:
        """The photo of a query with its matches as dots, in the size of the panel."""
        photo, camera = _photo(query), _shown_camera(query)
        if photo is None:
            self._text.content += f"\n\nNo photo at {query.image}."
            self._photo = self._dotted = np.zeros((0, 0, 3), np.uint8)
            return
        self._photo = images.resize(photo, camera.width, camera.height)
        self._dotted = self._photo.copy()
        if query.matches is not None:
            pixels = query.matches.pixels * (camera.width / query.camera.width)
            images.draw_dots(self._dotted, pixels[~query.matches.inliers], OUTLIER, 1.5)
            images.draw_dots(self._dotted, pixels[query.matches.inliers], INLIER, 1.5)

    def _show_stage(self, move: bool) -> None:
        """The map at the pose of the chosen stage beside the photo, and everybody's camera there."""
        with self._lock:
            query = self._queries.get(self._chosen)
            if query is None:
                return
            pose = self._frame.pose_in_map(query.stages.get(self._stage.value, query.cam_from_world))
            if self._lines is not None:  # they begin at the final pose: from beside it they cover the view
                self._lines.visible = self._stage.value == FINAL
            if move:
                self._move_to(pose, query.camera)
            kind = self._kind.value
            drawn = self._draw(_shown_camera(query), pose, COLOR if kind == DIFFERENCE else kind)
            if kind == DIFFERENCE and self._photo.size:
                drawn = images.colorize_difference(self._photo, drawn, _FULL_DIFFERENCE)
            self._rendering = drawn
            self._mixed()

    def _move_to(self, cam_from_map: Tensor, camera: Camera) -> None:
        map_from_cam = se3.inverse(cam_from_map)
        for client in self._server.get_clients().values():
            with client.atomic():
                client.camera.wxyz = se3.quaternion_from_rotation(map_from_cam[:3, :3]).numpy()
                client.camera.position = map_from_cam[:3, 3].numpy()
                client.camera.fov = field_of_view(camera)

    def _mixed(self) -> None:
        with self._lock:
            photo, share = self._dotted if self._dotted.size else self._rendering, float(self._mix.value)
            mixed = (1 - share) * photo.astype(np.float32) + share * self._rendering
            self._picture.image = np.rint(mixed).astype(np.uint8)


def _shown_camera(query: LocalizedQuery) -> Camera:
    width = min(_WIDTH, query.camera.width)
    return query.camera.resized(width, max(1, round(query.camera.height * width / query.camera.width)))


def _least_certain_first(queries: Sequence[LocalizedQuery]) -> list[LocalizedQuery]:
    def uncertainty(query: LocalizedQuery) -> tuple[bool, float]:
        return query.status is Status.UNVERIFIED, query.expected_translation_m or 0.0

    return sorted(queries, key=uncertainty, reverse=True)


def _described(query: LocalizedQuery, metric: bool) -> str:
    rows = {"status": str(query.status)}
    if query.expected_translation_m is not None and query.expected_rotation_deg is not None:
        stated = length(query.expected_translation_m, metric, 2)
        rows["stated error"] = f"{stated}, {figures(query.expected_rotation_deg, 2)}°"
    if query.translation_error_m is not None:
        rows["error"] = length(query.translation_error_m, metric, 2)
    if query.matches is not None:
        rows["matches shown"] = f"{len(query.matches)}, of them {int(query.matches.inliers.sum())} inliers"
    return markdown_rows(rows)


def markdown_rows(rows: Mapping[str, str]) -> str:
    """A table in Markdown of names and values."""
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _photo(query: LocalizedQuery) -> Image | None:
    try:
        return None if query.image is None else decode_upright(query.image)
    except (GSplatLocError, OSError):  # moved since then
        return None
