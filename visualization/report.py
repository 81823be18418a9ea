"""Report of a localization run: figures per stage, error curves, training curves, pictures; one HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from gsplatloc.localization.evaluation import QueryResult, stage_error, threshold_curve
from gsplatloc.localization.io.results import advice_lines
from gsplatloc.localization.pose.distortion import undistort_image
from gsplatloc.localization.queries import QueryImage
from gsplatloc.localization.result import Status
from gsplatloc.localization.verification import MIN_SCORE, image_score
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.console import counted
from gsplatloc.utils.io import write_text
from gsplatloc.utils.version import version
from gsplatloc.visualization import images, plots
from gsplatloc.visualization.certainty import least_certain_first, query_table, stated_figures
from gsplatloc.visualization.images import Image
from gsplatloc.visualization.pictures import QueryPicture, draw_panels, write_pictures
from gsplatloc.visualization.query_pages import query_pages
from gsplatloc.visualization.style import PAGE, SORTABLE, html_table

RECALL_NAMES = {"10cm_5deg": "10 cm 5°", "5cm_5deg": "5 cm 5°", "2cm_2deg": "2 cm 2°", "1cm_1deg": "1 cm 1°"}


@dataclass(frozen=True)
class Report:
    """The content of a report."""

    metrics: Mapping[str, Any]  # the figures that `write_results` returns
    results: Sequence[QueryResult]
    pictures: Sequence[QueryPicture] = ()
    training_log: Path | None = None  # training.jsonl of the map
    scores: Sequence[float] = ()  # verification scores of the results' final poses, -inf without one
    plan: Image | None = None  # the map from above with the poses found, of `draw_results`


def final_scores(
    queries: Sequence[QueryImage], results: Sequence[QueryResult], splat_map: SplatMap
) -> list[float]:
    """Verification scores of all final poses, -inf without one; empty without ground truth.

    The localizer compares only those poses with the map that no refinement has compared.
    """
    if any(result.truth is None for result in results):
        return []
    scores = []
    for query, result in zip(queries, results, strict=True):
        final, score = result.localization.final, result.localization.score
        if final.ok and score is None:
            image = query.load_image()
            if final.distortion != 0:
                image = undistort_image(image, final.camera, final.distortion)
            pose = splat_map.frame.pose_in_map(final.pose())
            score = image_score(image, final.camera, splat_map, pose)
        scores.append(float("-inf") if score is None or not final.ok else score)
    return scores


def remove_report(folder: Path) -> None:
    """Remove the report and the pictures of an earlier run."""
    (folder / "report.html").unlink(missing_ok=True)
    write_pictures(folder / "pictures", [])


def write_report(path: Path | str, report: Report) -> None:
    """Write the page, atomically. It contains its pictures and styles and loads no other file."""
    title = f"{report.metrics['scene']}: localization"
    figures = [_cards(report.metrics), _table(report.metrics)]
    if all(result.truth is None for result in report.results):
        figures = [_stated_cards(report)]
    pictures = [_plan(report.plan), _plots(report), _pictures(report.pictures)]
    anchors = {picture.name: f"picture-{number}" for number, picture in enumerate(report.pictures)}
    metric = report.metrics.get("metric", True)
    pages = query_pages(least_certain_first(report.results), anchors, metric)
    sections = [*figures, query_table(report.results, metric), *pictures, pages]
    body = f"<header><h1>{escape(str(report.metrics['scene']))}</h1>{_summary(report.metrics)}</header>"
    body += "\n".join(section for section in sections if section)
    body += f"<footer>GSplatLoc {escape(version())}</footer>"
    write_text(path, PAGE.replace("{title}", escape(title)).replace("{body}", body + SORTABLE))


def _summary(metrics: Mapping[str, Any]) -> str:
    failed, unverified = (metrics[key] or "none" for key in ("failed", "unverified"))
    counts = f"{counted(metrics['count'], 'query', 'queries')}, {failed} failed, {unverified} unverified"
    reasons = "".join(f"<br>{escape(line)}." for line in advice_lines(metrics))
    has_truth = metrics["final"]["median_rotation_deg"] is not None
    rule = " A failed query counts as an infinite error." if has_truth else ""
    return f"<p>{counts}.{rule}{reasons}</p>"


def _cards(metrics: Mapping[str, Any]) -> str:
    """The main figures."""
    final = metrics["final"]
    cards = [
        ("median position error", _position(final["median_translation_m"], metrics)),
        ("median rotation error", _scaled(final["median_rotation_deg"], 1, "°", 3)),
        ("within 5 cm and 5°", _percent(final["recall"].get("5cm_5deg"))),
        ("per query", _scaled(metrics["total_median_ms"], 1, "ms", 0)),
        ("map", _scaled(metrics["map_bytes"], 1e-6, "MB", 1)),
    ]
    return _cells(cards)


def _stated_cards(report: Report) -> str:
    """The main figures where no query has ground truth: what the results state themselves."""
    metrics, stated = report.metrics, stated_figures(report.results)
    verified = sum(result.localization.status is Status.OK for result in report.results)
    return _cells([
        ("verified", f"{verified} of {len(report.results)}"),
        ("stated position error, median of verified", _position(stated["translation_m"], metrics, 2)),
        ("stated rotation error, median of verified", _scaled(stated["rotation_deg"], 1, "°", 2)),
        ("inliers, median of verified", _scaled(stated["inliers"], 1, "", 0).strip()),
        ("per query", _scaled(metrics["total_median_ms"], 1, "ms", 0)),
        ("map", _scaled(metrics["map_bytes"], 1e-6, "MB", 1)),
    ])  # fmt: skip


def _cells(cards: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in cards)
    return f'<section class="cards">{cells}</section>'


def _plan(plan: Image | None) -> str:
    if plan is None:
        return ""
    note = "Green: verified poses. Orange: poses that are not verified. A line shows where the camera looks."
    picture = _image(plan, "the map from above")
    return (
        f"<section class='plan'><h2>The map from above</h2><p>{note}</p><figure>{picture}</figure></section>"
    )


def _table(metrics: Mapping[str, Any]) -> str:
    """One row per stage and one for the result."""
    head = ["stage", "median", "rotation", *RECALL_NAMES.values(), "accepted", "failed", "time"]
    rows = [_row(name, row, metrics) for name, row in metrics["stages"].items()]
    rows.append(_row("final", metrics["final"], metrics))
    table = html_table(head, rows, final=(len(rows) - 1,))
    return f"<section><h2>Stages</h2><div class='scroll'>{table}</div></section>"


def _row(name: str, row: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    cells = [name, _position(row["median_translation_m"], metrics)]
    cells.append(_scaled(row["median_rotation_deg"], 1, "°", 3))
    cells += [_percent(row["recall"].get(key)) for key in RECALL_NAMES]
    cells += [str(row.get(key, "")) for key in ("accepted", "failed")]
    return [*cells, _scaled(row["median_ms"], 1, "ms", 0)]


def _plots(report: Report) -> str:
    figures = []
    stages = [*report.metrics["stages"]]
    errors = {stage: [stage_error(result, stage) for result in report.results] for stage in stages}
    known = {stage: [error for error in found if error] for stage, found in errors.items()}
    if report.results and all(known.values()):
        unit, scale = ("cm", 100) if report.metrics.get("metric", True) else ("units", 1)
        lengths = {stage: [scale * error.translation_m for error in found] for stage, found in known.items()}
        degrees = {stage: [error.rotation_deg for error in found] for stage, found in known.items()}
        for values, label in ((lengths, f"position error, {unit}"), (degrees, "rotation error, degrees")):
            figures.append((label, plots.error_curves(values, label, axis_limit(values))))
    final = [stage_error(result, None) for result in report.results]
    known_final = [error for error in final if error]
    if known_final and len(known_final) == len(report.scores) and max(report.scores) > float("-inf"):
        curve = threshold_curve(known_final, report.scores)
        if max(curve.false) > 0:  # else no threshold is better than any other
            figures.append(("threshold on the verification score", plots.threshold_curve(curve, MIN_SCORE)))
    curves = plots.training_curves(report.training_log) if report.training_log else None
    if curves:
        figures.append(("training", curves))
    cells = "".join(f"<figure aria-label='{escape(name)}'>{svg}</figure>" for name, svg in figures)
    return f"<section><h2>Curves</h2><div class='plots'>{cells}</div></section>" if figures else ""


def axis_limit(values: Mapping[str, Sequence[float]]) -> float:
    """1.4 times the 90th percentile of the finite errors of all stages."""
    finite = sorted(value for found in values.values() for value in found if value != float("inf"))
    return (1.4 * finite[int(0.9 * (len(finite) - 1))] if finite else 0) or 1.0


def _pictures(pictures: Sequence[QueryPicture]) -> str:
    if not pictures:
        return ""
    note = "Failed and unverified queries, then the least accurate or least certain ones, then typical ones."
    note += " Green: matches that agree with the final pose (inliers). Red: matches that do not."
    cells = "".join(_figure(number, picture) for number, picture in enumerate(pictures))
    return f"<section><h2>Pictures</h2><p>{note}</p>{cells}</section>"


def _figure(number: int, picture: QueryPicture) -> str:
    """The panels of a query's picture side by side; on a narrow screen they are moved by swiping."""
    panels = [
        f"<figure>{_image(panel, f'{picture.kind} query {picture.name}: {label}')}"
        f"<figcaption>{label}</figcaption></figure>"
        for label, panel in draw_panels(picture).items()
    ]
    caption = f"<b>{escape(picture.name)}</b> <i>{picture.kind}</i> <span>{escape(picture.caption)}</span>"
    return (
        f'<figure class="query {escape(picture.status)}" id="picture-{number}">'
        f"<div class='panels'>{''.join(panels)}</div><figcaption>{caption}</figcaption></figure>"
    )


def _image(image: Image, description: str) -> str:
    data = base64.b64encode(images.encode_jpeg(image)).decode("ascii")
    return f'<img alt="{escape(description, quote=True)}" src="data:image/jpeg;base64,{data}">'


def _position(value: float | None, metrics: Mapping[str, Any], digits: int = 3) -> str:
    """A length in centimetres, or in the arbitrary unit of a map of photos alone."""
    if metrics.get("metric", True):
        return _scaled(value, 100, "cm", digits)
    return _scaled(value, 1, "units", digits + 2)


def _scaled(value: float | None, factor: float, unit: str, digits: int) -> str:
    """A figure with its unit; a dash for None and infinity (which JSON writes as null)."""
    if value is None or value in (float("inf"), float("-inf")):
        return "–"
    return f"{value * factor:.{digits}f}" + (unit if unit == "°" else f" {unit}")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
