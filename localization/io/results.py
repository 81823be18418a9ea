"""Localize many queries and write the results: metrics.json, poses.txt, per_query.csv and queries.jsonl."""

import csv
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsplatloc.localization.evaluation import QueryResult, metrics, stage_error
from gsplatloc.localization.io import JSON_LINES_NAME, saved_matches
from gsplatloc.localization.io.json_lines import write_json_lines
from gsplatloc.localization.io.poses import PoseRecord, write_poses
from gsplatloc.localization.io.saved_matches import write_matches
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import INITIAL
from gsplatloc.localization.queries import QueryImage
from gsplatloc.localization.result import ADVICE, Localization, PoseEstimate, Status
from gsplatloc.localization.tiles.localizer import TiledLocalizer
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.console import counted, figures, length, log, progress
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import write_json, write_text
from gsplatloc.utils.signals import finishing

_SAVE_INTERVAL_S = 10.0  # between two calls of `save`
_OF_WHOLE_RUNS = ("metrics.json", "report.html", "trajectory.txt", saved_matches.FILE_NAME)
_NO_CAMERA = Camera(0, 0, 0.0, 0.0, 0.0, 0.0)  # of an image that could not be read

Save = Callable[[Sequence[QueryResult]], None]
Tell = Callable[[QueryResult], None]


def localize_queries(
    localizer: Localizer | TiledLocalizer,
    queries: Sequence[QueryImage],
    quiet: bool = False,
    save: Save | None = None,
    tell: Tell | None = None,
) -> list[QueryResult]:
    """Localize every query in turn, behind a progress bar; an unreadable image is a failed query.

    `save` is called with the results so far every 10 seconds, and when an exception or a signal ends the run;
    `tell` is called with each result as soon as it is there.
    """
    results: list[QueryResult] = []
    saved = time.monotonic()
    try:
        for query in progress(queries, desc="localizing", quiet=quiet):
            results.append(localize_query(localizer, query))
            if tell is not None:
                tell(results[-1])
            if save is not None and time.monotonic() - saved > _SAVE_INTERVAL_S:
                save(results)
                saved = time.monotonic()
    except BaseException:
        if save is not None and results:
            with finishing():
                save(results)
            log(f"the results of {len(results)} of {len(queries)} queries were saved", stream=sys.stderr)
        raise
    return results


def localize_query(localizer: Localizer | TiledLocalizer, query: QueryImage) -> QueryResult:
    """Localize one image; an unreadable one is a failed query, and said to be."""
    try:
        image, camera = query.load_image(), query.load_camera()
    except GSplatLocError as error:
        log(f"{quoted(query.name)}: counted as failed: {error}", stream=sys.stderr)
        failed = Localization({INITIAL: PoseEstimate(Status.UNREADABLE, _NO_CAMERA)}, verified=False)
        return QueryResult(query.name, failed, query.cam_from_world, quoted(error), query.path)
    found = localizer.localize(image, camera, query.given_pose)
    return QueryResult(query.name, found, query.cam_from_world, image=query.path)


def write_results(
    folder: Path,
    scene: str,
    results: Sequence[QueryResult],
    map_bytes: int,
    stages: Sequence[str],
    metric: bool = True,
) -> dict:
    """Write all files of the results into `folder`; returns the figures of metrics.json, each stage once.

    `metric`: whether lengths are in metres, and not in the arbitrary unit of a map of photos alone.
    """
    figures = {**metrics(scene, results, map_bytes, stages), "metric": metric}
    write_queries(folder, results, stages)
    write_matches(folder / saved_matches.FILE_NAME, results)
    write_json(folder / "metrics.json", {**figures, "stages": with_former_names(figures["stages"])})
    return figures


def write_queries(folder: Path, results: Sequence[QueryResult], stages: Sequence[str]) -> None:
    """Write poses.txt, per_query.csv and queries.jsonl; remove what describes the queries of an earlier run.

    So metrics.json is there if the run is complete.
    """
    for name in _OF_WHOLE_RUNS:
        (folder / name).unlink(missing_ok=True)
    write_poses(folder / "poses.txt", _pose_records(results))
    write_text(folder / "per_query.csv", _per_query_csv(results, stages))
    write_json_lines(folder / JSON_LINES_NAME, results)


def with_former_names(stages: dict[str, dict]) -> dict[str, dict]:
    """The stages of metrics.json. The first one is also listed as "prior", its former name."""
    return {**stages, "prior": stages[INITIAL]} if INITIAL in stages else stages


def summary_lines(figures: dict) -> list[str]:
    """A table of the figures that `write_results` returns."""
    rows = {**figures["stages"], "final": figures["final"]}
    counts = f"{figures['failed']} failed, {figures['unverified']} unverified"
    lines = [
        f"{figures['scene']}: {counted(figures['count'], 'query', 'queries')}, {counts}",
        *advice_lines(figures),
    ]
    if figures["final"]["median_translation_m"] is None:
        parts = {"features": figures["features_median_ms"]}
        parts |= {name: row["median_ms"] for name, row in figures["stages"].items()}
        times = ", ".join(f"{name} {ms or 0:.0f} ms" for name, ms in parts.items())
        return [*lines, f"time per query, median: {figures['total_median_ms'] or 0:.0f} ms ({times})"]
    metric = figures.get("metric", True)
    names = list(figures["final"]["recall"]) if metric else []  # of centimetres
    unit, scale, digits = ("median cm", 100, 3) if metric else ("units", 1, 5)
    head = f"{'stage':<8}{unit:>10}{'deg':>8}"
    lines.append(head + "".join(f"{name:>11}" for name in names) + f"{'ms':>8}")
    for name, row in rows.items():
        recalls = "".join(f"{100 * row['recall'][key]:>10.1f}%" for key in names)
        errors = f"{scale * row['median_translation_m']:>10.{digits}f}{row['median_rotation_deg']:>8.3f}"
        lines.append(f"{name:<8}{errors}{recalls}{row['median_ms'] or 0:>8.0f}")
    return lines


def advice_lines(figures: Mapping[str, Any]) -> list[str]:
    """How many queries have no verified pose, why, and what would help: one line for each status."""
    return [
        f"{count} {status}: {ADVICE[Status(status)]}"
        for status, count in figures["statuses"].items()
        if status != Status.OK
    ]


def camera_lines(results: Sequence[QueryResult]) -> list[str]:
    """A warning if matches contradict the cameras that were given; else nothing."""
    replaced = [each for each in results if each.localization.camera_advice]
    if not replaced:
        return []
    name, advice = quoted(replaced[0].name), replaced[0].localization.camera_advice
    return [f"warning: {len(replaced)} of {len(results)} queries, for example {name}: {advice}"]


def query_lines(results: Sequence[QueryResult], metric: bool = True) -> list[str]:
    """One line per query: its name, status, camera centre and stated error, or why it has none.

    What would help is said by `advice_lines`, once for all queries of a status.
    """
    names = [quoted(result.name) for result in results]
    width = max(map(len, names), default=0)
    return [f"{name:<{width}}  {_outcome(result, metric)}" for name, result in zip(names, results)]


def _outcome(result: QueryResult, metric: bool) -> str:
    final, parts = result.localization.final, [str(result.localization.status)]
    if final.center is not None:
        parts.append("center " + " ".join(f"{value:.4f}" for value in final.center.tolist()))
    if final.expected_translation_m is not None:
        stated = length(final.expected_translation_m, metric, 2)
        parts.append(f"± {stated} {figures(final.expected_rotation_deg or 0.0, 2)}°")
    if result.localization.advice:
        parts.append(result.localization.advice.partition(":")[0])
    return "  ".join(parts)


def _pose_records(results: Sequence[QueryResult]) -> list[PoseRecord]:
    """The final poses of successful queries: evaluators count a query without a line as failed."""
    found = [(result.name, result.localization.final) for result in results]
    return [PoseRecord(name, final.pose(), final.camera.fx) for name, final in found if final.ok]


def _per_query_csv(results: Sequence[QueryResult], stages: Sequence[str]) -> str:
    """One row per query; for every stage its status, inliers, errors in metres and degrees, milliseconds."""
    columns = ["status", "inliers", "accepted", "translation_error_m", "rotation_error_deg"]
    columns += ["expected_translation_m", "expected_rotation_deg", "ms"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [f"{stage}_{column}" for stage in (*stages, "final") for column in columns]
    writer.writerow(["name", "status", "features_ms", "total_ms", "focal_px", "score", *header, "reason"])
    for result in results:
        localization = result.localization
        row = [result.name, str(localization.status)]
        row += [f"{localization.features_ms:.1f}", f"{localization.total_ms:.1f}"]
        row.append(f"{localization.final.camera.fx:.3f}" if localization.final.ok else "")
        row.append("" if localization.score is None else f"{localization.score:.3f}")
        for stage in stages:
            row += _stage_columns(result, stage, localization.stages.get(stage))
        row += _stage_columns(result, None, localization.final)
        writer.writerow([*row, result.reason])
    return text.getvalue()


def _stage_columns(result: QueryResult, stage: str | None, estimate: PoseEstimate | None) -> list[str]:
    """The columns of one stage (None: the final one).

    Errors are empty without ground truth, and `inf` without an estimate.
    """
    error = stage_error(result, stage)
    errors = [_figure(error.translation_m), _figure(error.rotation_deg)] if error else ["", ""]
    if estimate is None:
        return ["skipped", "0", "", *errors, "", "", ""]
    expected = [
        "" if value is None else _figure(value)
        for value in (estimate.expected_translation_m, estimate.expected_rotation_deg)
    ]
    accepted = str(estimate.accepted).lower()
    elapsed = f"{estimate.elapsed_ms:.1f}"
    return [str(estimate.status), str(estimate.inliers), accepted, *errors, *expected, elapsed]


def _figure(value: float) -> str:
    """Six decimals; six digits of a small figure, as in scenes whose unit is a kilometre."""
    return f"{value:.6g}" if 0 < value < 1e-3 else f"{value:.6f}"
