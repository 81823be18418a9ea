"""The part of a report that needs no ground truth: what results state themselves, a map from above."""

from collections.abc import Sequence
from html import escape

import numpy as np
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.result import Status
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.visualization.images import RGB, Image
from gsplatloc.visualization.plan import Cameras, draw_plan
from gsplatloc.visualization.query_pages import ERRORS, error_cells, page_link, stated_cells
from gsplatloc.visualization.style import html_table

# Drawn in this order: what needs a look comes last, over the others.
STATUS_COLORS: dict[Status, RGB] = {Status.OK: (70, 222, 120), Status.UNVERIFIED: (255, 176, 59)}
_MINOR = ("score", "inliers", "stated rotation", "rotation error")  # columns that a narrow screen leaves out


def least_certain_first(results: Sequence[QueryResult]) -> list[QueryResult]:
    """Failed queries, then unverified ones, then the others by their stated error, largest first."""
    return sorted(results, key=uncertainty, reverse=True)


def uncertainty(result: QueryResult) -> tuple[bool, bool, float, int]:
    """Compares two results by what they say of themselves."""
    final = result.localization.final
    unverified = result.localization.status is Status.UNVERIFIED
    return not final.ok, unverified, final.expected_translation_m or 0.0, -final.inliers


def stated_figures(results: Sequence[QueryResult]) -> dict[str, float | None]:
    """Medians over the verified queries: `translation_m`, `rotation_deg` as stated, and `inliers`.

    Errors that unverified poses state do not say whether the place is right.
    """
    final = [result.localization.final for result in results if result.localization.status is Status.OK]
    columns: dict[str, list[float | None]] = {
        "translation_m": [estimate.expected_translation_m for estimate in final],
        "rotation_deg": [estimate.expected_rotation_deg for estimate in final],
        "inliers": [estimate.inliers for estimate in final],
    }
    known = {name: [value for value in column if value is not None] for name, column in columns.items()}
    return {name: float(np.median(column)) if column else None for name, column in known.items()}


def query_table(results: Sequence[QueryResult], metric: bool = True) -> str:
    """A table of all queries in HTML, the least certain first, with their errors where these are known.

    Below a name stands what would help a query without a verified pose. Each name is a link to the query's
    page (`query_pages`, of the results in this order).
    """
    has_truth = any(result.truth is not None for result in results)
    has_scores = any(result.localization.score is not None for result in results)
    head = (
        "query",
        "status",
        *(("score",) if has_scores else ()),
        "inliers",
        "stated error",
        "stated rotation",
    )
    names = (*head, *(ERRORS if has_truth else ()))
    rows = [
        [
            *_row(number, result, metric, has_scores),
            *(error_cells(result, None, metric) if has_truth else ()),
        ]
        for number, result in enumerate(least_certain_first(results))
    ]
    table = html_table(names, rows, "queries sortable", links=True, minor=_MINOR)
    return (
        "<section id='queries'><h2>Queries, the least certain first</h2>"
        f"<div class='scroll long'>{table}</div></section>"
    )


def draw_results(
    gaussians: Gaussians | None, results: Sequence[QueryResult], frame: MapFrame | None = None
) -> Image | None:
    """The map from above with the poses found, coloured by status; None if no query has a pose.

    `frame`: the coordinates of the Gaussians; None for those of the poses.
    """
    frame = frame or MapFrame()
    groups = []
    for status, color in STATUS_COLORS.items():
        found = [result.localization for result in results if result.localization.status is status]
        poses = [localization.final.cam_from_world for localization in found]
        known = [frame.pose_in_map(pose) for pose in poses if pose is not None]
        if known:
            groups.append(Cameras(torch.stack(known), color))
    return draw_plan(gaussians, groups) if groups else None


def _row(number: int, result: QueryResult, metric: bool, has_scores: bool) -> list[str]:
    """The cells of a query, without its errors; the first is HTML."""
    localization, final = result.localization, result.localization.final
    help_text = result.reason or localization.advice
    note = f"<small>{escape(help_text)}</small>" if help_text else ""
    return [
        page_link(result, number) + note,
        localization.status.replace("_", " "),
        *([] if not has_scores else ["" if localization.score is None else f"{localization.score:.2f}"]),
        str(final.inliers),
        *stated_cells(final, metric, 2),
    ]
