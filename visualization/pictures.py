"""Pictures of localized queries: query image, map rendered at the estimated pose, difference."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.localization.evaluation import QueryResult, stage_error
from gsplatloc.localization.queries import QueryImage
from gsplatloc.localization.result import Status
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils.console import figures, length
from gsplatloc.utils.io import output_path, write_bytes
from gsplatloc.visualization import images
from gsplatloc.visualization.certainty import uncertainty
from gsplatloc.visualization.images import RGB, Image

_PANEL = 560  # pixels, longest side of each of the three panels
_GUTTER = 6  # pixels
_BAR = 46  # pixels, height of the caption
_INK: RGB = (236, 238, 242)
_MUTED: RGB = (150, 157, 168)
_PAPER: RGB = (20, 23, 28)
_GREEN: RGB = (70, 222, 120)
_RED: RGB = (255, 84, 84)


@dataclass(frozen=True)
class QueryPicture:
    """The data of one query's picture."""

    name: str
    query: Image  # [H, W, 3]
    render: Image | None  # [H, W, 3] of any size, at the estimated pose; None without a pose
    pixels: NDArray[np.floating]  # [M, 2] matched keypoints of the final pose, image corner = 0
    inliers: NDArray[np.bool_]  # [M]
    translation_error_m: float | None  # None without ground truth, infinite without an estimate
    rotation_error_deg: float | None
    status: str = "ok"
    kind: str = "query"  # why it was chosen: worst, least certain or typical
    stated: str = ""  # the errors that the estimate itself states
    metric: bool = True  # False: lengths are in the arbitrary unit of the map

    @property
    def caption(self) -> str:
        """Errors, inliers and status on one line."""
        parts = []
        if self.status not in (Status.OK, Status.UNVERIFIED):
            parts.append(f"failed: {self.status.replace('_', ' ')}")
        elif self.translation_error_m is not None and self.rotation_error_deg is not None:
            parts.append(f"{length(self.translation_error_m, self.metric)}   {self.rotation_error_deg:.3f}°")
        elif self.stated:
            parts.append(self.stated)
        if len(self.inliers):
            parts.append(f"{int(self.inliers.sum())} of {len(self.inliers)} matches agree")
        return "   ·   ".join([self.status, *parts] if self.status == Status.UNVERIFIED else parts)


def choose(results: Sequence[QueryResult], worst: int = 5, typical: int = 3) -> list[tuple[str, QueryResult]]:
    """Queries to draw, as (kind, result): the worst or least certain first, then some of median error.

    Failed queries come first, then unverified ones; within each group by translation error. Without ground
    truth they are the least certain ones, by the error that they state.
    """
    ranked = sorted(results, key=_badness, reverse=True)
    bad, rest = ranked[:worst], ranked[worst:]
    middle = len(ranked) // 2 - worst  # of all queries, as an index into the rest
    start = min(max(middle - typical // 2, 0), max(len(rest) - typical, 0))
    kind = "least certain" if all(result.truth is None for result in results) else "worst"
    return [(kind, result) for result in bad] + [("typical", r) for r in rest[start : start + typical]]


def make_pictures(
    queries: Sequence[QueryImage],
    results: Sequence[QueryResult],
    gaussians: Gaussians,
    frame: MapFrame | None = None,
    metric: bool = True,
) -> list[QueryPicture]:
    """Pictures of the queries that `choose` picks, with the map rendered at their final poses.

    `frame`: the coordinates of the Gaussians; None for those of the poses. `metric`: whether they are metres.
    """
    by_name, frame = {query.name: query for query in queries}, frame or MapFrame()
    shown = [result for result in results if result.localization.status is not Status.UNREADABLE]
    return [
        _picture(by_name[result.name], kind, result, gaussians, frame, metric)
        for kind, result in choose(shown)
    ]


def write_pictures(folder: Path | str, pictures: Sequence[QueryPicture]) -> list[Path]:
    """Write one .png per picture, numbered in order; pictures of an earlier run are removed."""
    folder = Path(folder)
    for old in folder.glob("[0-9][0-9]_*.png"):
        old.unlink()
    paths = []
    for index, picture in enumerate(pictures, start=1):
        name = re.sub(r"[^\w.-]+", "_", picture.name)
        paths.append(output_path(folder, f"{index:02d}_{picture.kind.replace(' ', '_')}_{name}", ".png"))
        write_bytes(paths[-1], images.encode_png(draw_picture(picture)), durable=False)
    return paths


def draw_panels(picture: QueryPicture) -> dict[str, Image]:
    """The images of a picture by label: the query with its matches; with a pose, rendering and difference."""
    height, width = picture.query.shape[:2]
    scale = _PANEL / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    query = images.resize(picture.query, *size)
    panels = {"query image": with_matches(query, picture, scale)}
    if picture.render is not None:
        rendering = images.resize(picture.render, *size)
        panels["map at the estimated pose"] = rendering
        panels["difference"] = images.colorize_difference(query, rendering)
    return panels


def draw_picture(picture: QueryPicture) -> Image:
    """Three panels above a caption: query image with matches, rendering, difference."""
    panels = draw_panels(picture)
    if picture.render is None:
        blank = np.full_like(panels["query image"], 34)
        panels |= {"no pose was found": blank, "": blank.copy()}
    for label, panel in panels.items():
        draw_label(panel, label)
    row = images.side_by_side([*panels.values()], _GUTTER, _PAPER)
    return np.vstack([row, _caption_bar(picture, row.shape[1])])


def _picture(
    query: QueryImage, kind: str, result: QueryResult, gaussians: Gaussians, frame: MapFrame, metric: bool
) -> QueryPicture:
    final = result.localization.final
    rendering = None
    if final.cam_from_world is not None:
        pose = frame.pose_in_map(final.cam_from_world)
        rendering = images.to_image(render(gaussians, shrunk(final.camera, _PANEL), pose).rgb)
    matches = final.matches
    error = stage_error(result, None)
    return QueryPicture(
        name=result.name,
        query=query.load_image(),
        render=rendering,
        pixels=matches.pixels if matches else np.zeros((0, 2)),
        inliers=matches.inliers if matches else np.zeros(0, bool),
        translation_error_m=error.translation_m if error else None,
        rotation_error_deg=error.rotation_deg if error else None,
        status=str(result.localization.status),
        kind=kind,
        stated=_stated(result, metric),
        metric=metric,
    )


def _stated(result: QueryResult, metric: bool) -> str:
    final = result.localization.final
    if final.expected_translation_m is None:
        return ""
    stated = length(final.expected_translation_m, metric, 2)
    return f"stated error {stated}   {figures(final.expected_rotation_deg or 0.0, 2)}°"


def _badness(result: QueryResult) -> tuple[bool, bool, float, int]:
    error, (failed, unverified, stated_m, inliers) = stage_error(result, None), uncertainty(result)
    return failed, unverified, error.translation_m if error else stated_m, inliers


def with_matches(panel: Image, picture: QueryPicture, scale: float) -> Image:
    """A copy of the resized query image with its matches as dots: inliers green, outliers red."""
    drawn = panel.copy()
    radius = 2.2 if len(picture.inliers) < 400 else 1.5
    for keep, color in ((~picture.inliers, _RED), (picture.inliers, _GREEN)):
        images.draw_dots(drawn, picture.pixels[keep] * scale, color, radius)
    return drawn


def draw_label(panel: Image, text: str) -> None:
    """Draw a label on a dark background in the top left corner, in place."""
    if text:
        right = min(22 + images.text_width(text, 15), panel.shape[1])
        panel[8:34, 8:right] = (0.35 * panel[8:34, 8:right]).astype(np.uint8)
        images.draw_text(panel, text, (15, 26), 15, _INK)


def _caption_bar(picture: QueryPicture, width: int) -> Image:
    bar = np.full((_BAR, width, 3), _PAPER, np.uint8)
    color = _INK if picture.status == "ok" else _RED
    start = width - images.text_width(picture.caption, 17) - 16
    images.draw_text(bar, picture.caption, (start, 29), 17, color)
    left = images.draw_text(bar, picture.kind, (14, 29), 15, _MUTED) + 14
    name = _shortened(picture.name, start - left - 24)
    images.draw_text(bar, name, (left, 29), 17, _INK, 500)
    return bar


def _shortened(name: str, width: int) -> str:
    """The end of a name that fits into `width` pixels: frames differ there."""
    shown = name if len(name) < 200 else "…" + name[-200:]
    while len(shown) > 4 and images.text_width(shown, 17, 500) > width:
        shown = "…" + shown[2:]
    return shown
