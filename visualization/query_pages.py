"""A page per query inside a report: what every stage found, how sure it is, how long it took.

The pages are hidden sections of the report that a link shows (CSS `:target`): no script, no second file, and
the address of the page can be shared.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from gsplatloc.localization.evaluation import QueryResult, stage_error
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.utils.console import figures, length
from gsplatloc.visualization.style import html_table

_HEAD = ("stage", "result", "inliers", "matches", "stated error", "stated rotation")
ERRORS = ("error", "rotation error")


def page_link(result: QueryResult, number: int) -> str:
    """A link in HTML, to the page of the query with this number in the order of `query_pages`."""
    return f"<a href='#query-{number}'>{escape(result.name)}</a>"


def query_pages(results: Sequence[QueryResult], pictures: Mapping[str, str], metric: bool = True) -> str:
    """The pages in HTML; `pictures` are the ids of pictures in the report by the queries' names."""
    last = len(results) - 1
    pages = []
    for number, result in enumerate(results):
        links = ["<a href='#queries'>all queries</a>"]
        links += [f"<a href='#query-{number - 1}'>previous</a>"] if number > 0 else []
        links += [f"<a href='#query-{number + 1}'>next</a>"] if number < last else []
        picture = pictures.get(result.name)
        links += [f"<a href='#{picture}'>picture</a>"] if picture else []
        parts = [f"<nav>{' · '.join(links)}</nav><h2>{escape(result.name)}</h2>{_summary(result)}"]
        parts.append(f"<div class='scroll'>{_stages(result, metric)}</div>{_position(result)}")
        pages.append(f"<section class='page' id='query-{number}'>{''.join(parts)}</section>")
    return "\n".join(pages)


def _summary(result: QueryResult) -> str:
    found = result.localization
    score = "" if found.score is None else f", verification score {found.score:.2f}"
    text = f"{found.status.replace('_', ' ')}{score}, {found.total_ms:.0f} ms in all"
    help_text = result.reason or found.advice
    return f"<p>{escape(text)}{'<br>' + escape(help_text) if help_text else ''}</p>"


def _stages(result: QueryResult, metric: bool) -> str:
    has_truth = result.truth is not None
    names = (*_HEAD, *(ERRORS if has_truth else ()), "time")
    rows = []
    for stage, estimate in result.localization.stages.items():
        cells = [stage, _outcome(estimate), str(estimate.inliers)]
        cells.append("" if estimate.matches is None else str(len(estimate.matches)))
        cells += stated_cells(estimate, metric)
        cells += error_cells(result, stage, metric) if has_truth else []
        rows.append([*cells, f"{estimate.elapsed_ms:.0f} ms"])
    return html_table(names, rows)


def _outcome(estimate: PoseEstimate) -> str:
    if not estimate.ok:
        return estimate.status.replace("_", " ")
    return "accepted" if estimate.accepted else "not accepted: the pose before it"


def stated_cells(estimate: PoseEstimate, metric: bool, digits: int = 3) -> list[str]:
    """The errors that an estimate states, in two cells of a table."""
    metres, degrees = estimate.expected_translation_m, estimate.expected_rotation_deg
    return [
        "" if metres is None else length(metres, metric, digits),
        "" if degrees is None else f"{figures(degrees, digits)}°",
    ]


def error_cells(result: QueryResult, stage: str | None, metric: bool) -> list[str]:
    """The errors after a stage, or of the final pose, in two cells; these are empty where none is known."""
    error = stage_error(result, stage)
    if error is None or not math.isfinite(error.translation_m):
        return ["", ""]
    return [length(error.translation_m, metric), f"{figures(error.rotation_deg)}°"]


def _position(result: QueryResult) -> str:
    """Where the camera stood, and its focal length."""
    final = result.localization.final
    if final.center is None:
        return ""
    position = ", ".join(f"{float(value):.3f}" for value in final.center)
    return f"<p>Camera at ({position}); focal length {final.camera.fx:.1f} px.</p>"
