"""One scene by one method: its map, then the poses of its test images; steps go on where they stopped."""

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.given_poses import queries_of_views
from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.localization.io.results import localize_queries, write_results
from gsplatloc.localization.io.saved_results import load_results, save_results
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.queries import QueryImage, query_from_view
from gsplatloc.mapping.resumable import STATE_NAME, is_finished, make_map
from gsplatloc.reproduction.costs import measured
from gsplatloc.reproduction.methods import Method, MethodName, localization_method, refinement_method
from gsplatloc.reproduction.pose_files import find_pose_files
from gsplatloc.reproduction.request import Request, Step
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.export import find_ply, map_files
from gsplatloc.scene.map_config import CAMERAS_NAME, MapConfig, read_cameras
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.utils.console import ProgressBar, log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, read_text, write_json
from gsplatloc.utils.machine import commit

COSTS_NAME = "costs.json"
RESULT_NAME = "result.json"  # of a scene and a method; written last
_STATE = "run.json"  # which run the saved queries are of
_SAVED = "queries-*.json"
_CHUNK = 20  # queries whose results are saved at once; a signal saves those that there are


@dataclass(frozen=True)
class QueryRun:
    """Queries of a scene, how they are localized, and where results go."""

    folder: Path
    queries: Sequence[QueryImage]
    method: Method


def identity(request: Request, name: MethodName, scene: str, source: Path) -> str:
    """A hash of all that the result of a scene and a method depends on, apart from the data's content."""
    options = request.mapping(name)
    parts: list[object] = [request.table.evaluation, str(source.resolve()), request.scene_options]
    parts += [request.every, replace(options, output=type(options.output)())]
    if request.table.evaluation == "refine":
        files = find_pose_files(request.poses, scene)
        parts += [(estimator, read_text(path), refinement_method(name, estimator).localizer)
                  for estimator, path in files.items()]  # fmt: skip
    else:
        parts.append(localization_method(name, request.table.outdoors).localizer)
    return _hash(*parts)


def run_scene(request: Request, step: Step) -> bool:
    """Make the map and localize the test images; False if a signal ended the mapping."""
    if not map_scene(request, step):
        return False
    for part in scene_parts(request, step):
        localize_part(request, step, part)
    finish_scene(request, step)
    return True


def map_scene(request: Request, step: Step) -> bool:
    """Make the map of a scene; False if a signal ended it."""
    read, folder = without_damaged(_read(request, step), quiet=request.quiet), _folder(request, step)
    options, source = request.mapping(step.method), str(read.root.resolve())
    config = MapConfig(source, request.scene_options, preset=step.method, training=asdict(options))
    if is_finished(folder / "map"):
        return make_map(read, folder / "map", options, config)  # checks that it is this map
    with measured(folder / COSTS_NAME, "mapping"):
        return make_map(read, folder / "map", options, config)


@dataclass(frozen=True)
class Part:
    """Some of the queries of a run: those from `start` to before `stop`."""

    run: str  # name of its folder
    start: int
    stop: int


def scene_parts(request: Request, step: Step, count: int = 1) -> list[Part]:
    """The queries of a scene, those of each run in up to `count` parts of about equal size.

    Saved results of other queries, other options or another map are deleted.
    """
    parts = []
    for run in _query_runs(request, step):
        _check_state(run, _folder(request, step) / "map")
        total = len(run.queries)
        size = max(_CHUNK, math.ceil(total / count))
        parts += [Part(run.folder.name, at, min(at + size, total)) for at in range(0, total, size)]
    return parts


def localize_part(request: Request, step: Step, part: Part) -> None:
    """Localize those queries of a part that are not localized yet, and save their results."""
    folder = _folder(request, step)
    run = next(run for run in _query_runs(request, step) if run.folder.name == part.run)
    saved = _saved(run)
    missing = [number for number in range(part.start, part.stop) if number not in saved]
    count = part.stop - part.start
    if len(missing) < count:
        log(f"{run.folder}: {count - len(missing)} of {count} queries were localized before")
    if not missing:
        return
    costs = folder / f"{part.run}-{part.start:06d}-{COSTS_NAME}"  # its own: parts run side by side
    with (
        measured(costs, "localization"),
        ProgressBar(count, f"{step.scene}: localizing", count - len(missing), request.quiet) as bar,
    ):
        localizer = Localizer.load(folder / "map", run.method.localizer)
        for at in range(0, len(missing), _CHUNK):
            numbers = missing[at : at + _CHUNK]
            save = partial(save_results, run.folder / f"queries-{numbers[0]:06d}.json")
            queries = [run.queries[number] for number in numbers]
            save(localize_queries(localizer, queries, True, save))
            for _ in numbers:
                bar.advance()


def finish_scene(request: Request, step: Step) -> None:
    """Write the results of a scene whose queries are all localized."""
    folder = _folder(request, step)
    map_bytes = _map_bytes(folder / "map", step.method)
    rows: list[dict[str, Any]] = []
    times: dict[str, float | None] = {}
    for run in _query_runs(request, step):
        saved = _saved(run)
        results = [saved[number] for number in range(len(run.queries))]
        stages = run.method.localizer.chain()
        figures = write_results(run.folder, step.scene, results, map_bytes, stages)
        rows += _rows(figures, run.method)
        times[run.folder.name] = figures["total_median_ms"]
    shutil.rmtree(folder / "map" / "cache", ignore_errors=True)  # features of mapping images: gigabytes
    facts = {
        "mapping_images": len(read_cameras(folder / "map" / CAMERAS_NAME)),
        "test_images": len(_read(request, step).test),
        "map_bytes": map_bytes,
    }
    write_json(
        folder / RESULT_NAME, {"key": step.key, "commit": commit(), "rows": rows, "query_ms": times, **facts}
    )


def _folder(request: Request, step: Step) -> Path:
    return request.folder(step.scene, step.method)


def _read(request: Request, step: Step) -> Scene:
    read = _read_once(step.source, request.scene_options)
    if not read.test:
        raise GSplatLocError(f"expected test images in {step.source}, found none: set the scene up again")
    return read


@lru_cache(maxsize=1)
def _read_once(source: Path, options: SceneOptions) -> Scene:
    """The steps of a scene follow each other, and the headers of thousands of images are read."""
    return read_scene(source, options)


def _query_runs(request: Request, step: Step) -> Iterator[QueryRun]:
    """The test images; for refinement once for every file of given poses."""
    views, folder = _read(request, step).test[:: request.every], _folder(request, step)
    if request.table.evaluation == "localize":
        method = localization_method(step.method, request.table.outdoors)
        yield QueryRun(folder / "localization", [query_from_view(view) for view in views], method)
        return
    for estimator, path in find_pose_files(request.poses, step.scene).items():
        poses = read_pose_file(path, [view.name for view in views], stamps=[view.timestamp for view in views])
        yield QueryRun(
            folder / f"refined-{estimator}",
            queries_of_views(views, poses),
            refinement_method(step.method, estimator),
        )


def _check_state(run: QueryRun, map_folder: Path) -> None:
    """Delete saved results of other queries, other options or another map."""
    names = [query.name for query in run.queries]
    given = [None if query.given_pose is None else query.given_pose.tolist() for query in run.queries]
    state = {"run": _hash(names, given, run.method.localizer, read_json(map_folder / STATE_NAME))}
    path = run.folder / _STATE
    if not path.is_file() or read_json(path) != state:
        for saved in run.folder.glob(_SAVED):
            saved.unlink()
    write_json(path, state)


def _saved(run: QueryRun) -> dict[int, QueryResult]:
    """The results that are saved, by the number of the query."""
    numbers = {query.name: number for number, query in enumerate(run.queries)}
    results = [result for path in sorted(run.folder.glob(_SAVED)) for result in load_results(path)]
    if not {result.name for result in results} <= set(numbers):
        raise GSplatLocError(f"expected results of this scene in {run.folder}, found others: remove it")
    return {numbers[result.name]: result for result in results}


def _rows(figures: dict[str, Any], method: Method) -> list[dict[str, Any]]:
    """One row of the table for every labelled stage."""
    rows = []
    for stage, label in method.labels.items():
        found = figures["final"] if stage == "final" else figures["stages"][stage]
        rows.append({
            "label": label,
            "count": figures["count"],
            "failed": found["failed"],
            "cm": _centimetres(found["median_translation_m"]),
            "deg": found["median_rotation_deg"],
            "recall": found["recall"],
        })  # fmt: skip
    return rows


def _centimetres(metres: float | None) -> float | None:
    return None if metres is None else 100 * metres


def _map_bytes(folder: Path, name: MethodName) -> int:
    """Size of all that a method reads of a map."""
    splat = () if name == "sparse" else map_files(find_ply(folder), descriptors=True)
    files = [*splat, folder / LANDMARKS]
    return sum(path.stat().st_size for path in files if path.is_file())


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:16]
