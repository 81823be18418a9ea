"""One scene by one method: its map, then the poses of its test images; steps go on where they stopped."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
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
from gsplatloc.reproduction.request import Request
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.export import find_ply, map_files
from gsplatloc.scene.map_config import MapConfig
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


def run_scene(request: Request, name: MethodName, scene: str, source: Path, key: str) -> bool:
    """Make the map and localize the test images; False if a signal ended the mapping."""
    folder = request.folder(scene, name)
    read = without_damaged(read_scene(source, request.scene_options))
    if not read.test:
        raise GSplatLocError(f"expected test images in {source}, found none: set the scene up again")
    if not _mapped(request, name, read, folder):
        return False
    rows: list[dict[str, Any]] = []
    times: dict[str, float | None] = {}
    for run in _query_runs(request, name, scene, read, folder):
        with measured(folder / COSTS_NAME, "localization"):
            figures = _localized(run, folder / "map", scene, request.quiet)
        rows += _rows(figures, run.method)
        times[run.folder.name] = figures["total_median_ms"]
    shutil.rmtree(folder / "map" / "cache", ignore_errors=True)  # features of mapping images: gigabytes
    facts = {
        "mapping_images": len(read.train),
        "test_images": len(read.test),
        "map_bytes": _map_bytes(folder),
    }
    write_json(
        folder / RESULT_NAME, {"key": key, "commit": commit(), "rows": rows, "query_ms": times, **facts}
    )
    return True


def _mapped(request: Request, name: MethodName, scene: Scene, folder: Path) -> bool:
    options = request.mapping(name)
    config = MapConfig(
        str(scene.root.resolve()), request.scene_options, preset=name, training=asdict(options)
    )
    if is_finished(folder / "map"):
        return make_map(scene, folder / "map", options, config)  # checks that it is this map
    with measured(folder / COSTS_NAME, "mapping"):
        return make_map(scene, folder / "map", options, config)


def _query_runs(
    request: Request, name: MethodName, scene: str, read: Scene, folder: Path
) -> Iterator[QueryRun]:
    """The test images; for refinement once for every file of given poses."""
    views = read.test[:: request.every]
    if request.table.evaluation == "localize":
        method = localization_method(name, request.table.outdoors)
        yield QueryRun(folder / "localization", [query_from_view(view) for view in views], method)
        return
    for estimator, path in find_pose_files(request.poses, scene).items():
        poses = read_pose_file(path, [view.name for view in views], stamps=[view.timestamp for view in views])
        yield QueryRun(
            folder / f"refined-{estimator}",
            queries_of_views(views, poses),
            refinement_method(name, estimator),
        )


def _localized(run: QueryRun, map_folder: Path, scene: str, quiet: bool) -> dict[str, Any]:
    """Localize what is not localized yet; returns the figures of all queries."""
    options, queries = run.method.localizer, run.queries
    _check_state(run, map_folder)
    done = _saved(run)
    localizer: Localizer | None = None
    with ProgressBar(len(queries), f"{scene}: localizing", len(done), quiet) as bar:
        while len(done) < len(queries):
            if localizer is None:
                localizer = Localizer.load(map_folder, options)
            save = partial(save_results, run.folder / f"queries-{len(done):06d}.json")
            found = localize_queries(localizer, queries[len(done) : len(done) + _CHUNK], True, save)
            save(found)
            done += found
            for _ in found:
                bar.advance()
    return write_results(run.folder, scene, done, _map_bytes(map_folder.parent), options.chain())


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


def _saved(run: QueryRun) -> list[QueryResult]:
    """The results that earlier runs saved: of the first queries, without a gap."""
    done: list[QueryResult] = []
    for path in sorted(run.folder.glob(_SAVED)):
        done += load_results(path)
    if [result.name for result in done] != [query.name for query in run.queries[: len(done)]]:
        raise GSplatLocError(f"expected results of this scene in {run.folder}, found others: remove it")
    if done:
        log(f"{run.folder}: {len(done)} of {len(run.queries)} queries were localized before")
    return done


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


def _map_bytes(folder: Path) -> int:
    """Size of all that a map consists of for localization."""
    files = [*map_files(find_ply(folder / "map"), descriptors=True), folder / "map" / LANDMARKS]
    return sum(path.stat().st_size for path in files if path.is_file())


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:16]
