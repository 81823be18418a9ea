"""Hard queries: held-out stretches, far from the mapping views, turned, cropped, blurred; and foreign images.

For each scene, part of the training images is held out: stretches of 10 and of 20 consecutive views, and
single views, which are also localized under the conditions of `CONDITIONS` in `scenes.py`. The others are
mapped. All queries lie in one folder that every method reads: our default chain, the sparse baseline with
each of its matchers, and DISK with LightGlue on renderings of a map made with DISK. Test images are not used.

Every case of a scene and method is one row in --results, so that a run can be divided (--scenes, --methods,
--cases) and continued. Time is that of all threads of the process (CPU time), without decoding.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.accuracy.command import BASELINES, MapArguments, baseline_script, make_map, run_baseline
from benchmarks.accuracy.scenes import (
    CONDITIONS,
    SCENES,
    Shot,
    case_of,
    check_unseen,
    foreign_queries,
    is_metric,
    link_queries,
    link_training,
    path_extent,
    under,
    write_posed_folders,
)
from benchmarks.harness.measuring import has_split
from benchmarks.harness.results import (
    NONE,
    Record,
    Row,
    error_text,
    number,
    origin_line,
    percent,
    publish,
    table,
)
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import query_from_view
from gsplatloc.localization.refine.members import GscprOptions
from gsplatloc.localization.result import Localization, Status
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.utils import se3
from gsplatloc.utils.console import log, progress
from gsplatloc.utils.errors import GSplatLocError, require_known
from gsplatloc.utils.io import write_text

_BLOCK = 56  # consecutive views of which one stretch is held out; South Building has two
_STRETCHES = (10, 20)  # views, in turn
_SINGLE = 8  # one in so many of the others is held out alone
_MAX_SINGLE = 24
CASES = (*CONDITIONS, *(f"stretch{length}" for length in _STRETCHES), "foreign")
METHODS = ("ours", *BASELINES, "disk")
_DISK = LocalizerOptions("retrieval", ("gscpr",), (GscprOptions(matcher="lightglue"),))
_FAR = {"2x nearest": (1.5, 3.0), "4x nearest": (3.0, float("inf"))}  # held-out views by that ratio
_GROSS = 0.25, 5.0  # metres, degrees: an accepted pose off by more is a false one
_STATED = 3.0  # times the stated error that an accepted pose may be off
_LEGEND = """
- *2x and 4x nearest*: subsets of `plain` and `stretch*`, whose rows count them too; left out for methods that
  were not run on all of these cases
- *10 cm 5°, 5 cm 5°*: share of the queries whose pose is within both limits, whatever its status
- *accepted*: poses with status `ok`; *falsely*: off by more than 25 cm or 5°, or of a foreign image
- *median*: of the errors of all poses, a missing pose counting as infinite; – is an infinite median
- *within 3 x stated*: accepted poses whose position and rotation both are; – where none is stated
- *all*: over the cases that a method was run on, which differ, without the subsets
- foreign images have no true pose: their shares and their median are –
- in scenes without metres, a length of 10 m stands for the extent of the path
""".strip()


@dataclass(frozen=True)
class HardArguments(MapArguments):
    """Which scenes, methods and cases to run, and where results go."""

    scenes: tuple[str, ...] = (*SCENES, "hololens_office", "campus_drone", "tum_livingroom1")
    """folders in --data"""
    methods: tuple[str, ...] = METHODS  # ours, settings of the sparse baseline, disk (with LightGlue)
    cases: tuple[str, ...] = CASES  # of `CONDITIONS` in `scenes.py`, and stretch10, stretch20, foreign
    foreign: int = 24  # images of other scenes
    output: Path = OUTPUT / "hard"  # folder for maps, queries and logs
    results: Path = RESULTS / "hard.json"  # file of results


def main() -> None:
    arguments = tyro.cli(HardArguments, description=__doc__)
    require_known("methods", arguments.methods, METHODS, "see --methods")
    require_known("cases", arguments.cases, CASES, "see --cases")
    script = baseline_script(arguments, any(method in BASELINES for method in arguments.methods))
    record = Record(arguments.results, arguments.keep)
    for scene in arguments.scenes:
        for method in arguments.methods:
            keys = [{"scene": scene, "method": method, "case": case} for case in arguments.cases]
            missing = [key for key in keys if record.find(**key) is None]
            if missing:
                log(f"{scene}: {method}")
                found = measure(scene, method, {key["case"] for key in missing}, arguments, script)
                for key in missing:
                    record.put(key, {"queries": columns(found.get(key["case"], []))})
    log(hard_table(record.rows))


def measure(
    name: str, method: str, cases: set[str], arguments: HardArguments, script: Path
) -> dict[str, list[Row]]:
    """The queries of each case by one method: errors, stated errors, status and time."""
    work = arguments.output / name
    source = make_scene(arguments.data, name, work / "scene", arguments.foreign)
    chosen = link_queries(source, cases, work / "chosen")
    scene = read_scene(chosen, SceneOptions())
    views = scene.test
    if method in BASELINES:
        found = run_baseline(method, chosen, work, script)
        rows = [
            {"metres": metres, "degrees": degrees, "ok": metres is not None, "ms": spent}
            for (metres, degrees), spent in zip(found["errors"], found["cpu_ms"], strict=True)
        ]
    else:
        disk = method == "disk"
        flags = ("--extractor", "disk") if disk else ()
        folder = make_map(f"{name}-disk" if disk else name, source, work / method, arguments, flags)
        check_unseen(scene, folder)
        localizer = Localizer.load(folder, _DISK if disk else None)
        localized(localizer, views[0])  # the first query loads what later ones share
        rows = [localized(localizer, view) for view in progress(views, desc=method)]
    ratios, unit = nearest_ratios(scene, views), 1.0
    if not is_metric(name):  # lengths are stated as if the path measured ten metres across
        unit = 10 / path_extent(scene.train)
    by_case: dict[str, list[Row]] = {}
    for view, row, ratio in zip(views, rows, ratios, strict=True):
        lengths = {key: unit * row[key] for key in ("metres", "stated_m") if row.get(key) is not None}
        by_case.setdefault(case_of(view.name.split("/")[-1]), []).append({**row, **lengths, "ratio": ratio})
    return by_case


def localized(localizer: Localizer, view: View) -> Row:
    query = query_from_view(view)
    image, camera = query.load_image(), query.load_camera()
    start = time.process_time()
    found: Localization = localizer.localize(image, camera)
    spent = 1000 * (time.process_time() - start)
    error, final = pose_error(found.final.cam_from_world, view.cam_from_world), found.final
    return {
        "metres": error.translation_m, "degrees": error.rotation_deg, "ok": found.status is Status.OK,
        "stated_m": final.expected_translation_m, "stated_deg": final.expected_rotation_deg, "ms": spent,
    }  # fmt: skip


def nearest_ratios(scene: Scene, views: Sequence[View]) -> list[float]:
    """Distance from each view to the nearest mapping view, relative to that between mapping views."""

    def centers(some: Sequence[View]) -> torch.Tensor:
        return torch.stack([se3.camera_center(view.cam_from_world) for view in some])

    mapped = centers(scene.train)
    between = torch.cdist(mapped, mapped).fill_diagonal_(torch.inf).amin(1).median()
    return (torch.cdist(centers(views), mapped).amin(1) / between).tolist()


def held_out(count: int) -> dict[str, list[int]]:
    """Indices of held-out views by case: stretches in the middle of blocks, and single views between."""
    found: dict[str, list[int]] = {f"stretch{length}": [] for length in _STRETCHES}
    blocks = count // _BLOCK
    for block in range(blocks if blocks >= len(_STRETCHES) else 0):
        length = _STRETCHES[block % len(_STRETCHES)]
        start = block * _BLOCK + (_BLOCK - length) // 2
        found[f"stretch{length}"] += range(start, start + length)
    taken = {index for indices in found.values() for index in indices}
    single = [index for index in range(count) if index not in taken][_SINGLE // 2 :: _SINGLE]
    return {"plain": single[:: -(-len(single) // _MAX_SINGLE)], **found}


def make_scene(data: Path, name: str, target: Path, foreign: int) -> Path:
    """Posed folders with the mapping views, and the queries of all cases as test images."""
    if not (target / "done").is_file():
        if not (data / name).is_dir():
            raise GSplatLocError(f"expected the scene {name} in {data}, found none: see --data")
        views = read_scene(data / name, SceneOptions(eval=not has_split(data / name))).train
        held = held_out(len(views))
        out = {index for indices in held.values() for index in indices}
        link_training(data / name, [view for index, view in enumerate(views) if index not in out], target)
        write_posed_folders(target / "test", queries(views, held, data, name, foreign))
        write_text(target / "done", "complete\n")
    return target


def queries(
    views: Sequence[View], held: dict[str, list[int]], data: Path, name: str, foreign: int
) -> Iterator[tuple[str, View]]:
    """The queries of all cases, made one at a time, with the names of their files."""
    for case, indices in held.items():
        for index in indices:
            for condition in CONDITIONS if case == "plain" else ("plain",):
                view = views[index]
                shot = under(condition, view.name, Shot(view.load_image(), view.camera, view.cam_from_world))
                label = condition if case == "plain" else case
                yield f"{label}--{index:06d}", _shown(view, shot)
    elsewhere = views[held["plain"][0]]  # any pose: every answer is wrong
    for index, query in enumerate(foreign_queries(data, name, foreign)):
        camera = query.load_camera()
        if camera is not None:
            shot = Shot(query.load_image(), camera, elsewhere.cam_from_world)
            yield f"foreign--{index:06d}", _shown(elsewhere, shot)


def _shown(view: View, shot: Shot) -> View:
    """The view as the shot shows it, without the depth of the image as it was."""
    return replace(
        view, camera=shot.camera, cam_from_world=shot.cam_from_world, load_image=lambda: shot.image,
        load_depth=None,
    )  # fmt: skip


def publish_hard(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table at `hard` below `root`."""
    return publish({"hard": f"{origin_line(rows)}\n\n{hard_table(rows)}"}, root)


def columns(queries: Sequence[Row]) -> dict[str, list[Any]]:
    """The queries of a case as lists, one for each figure, so that the file of results is small."""
    return {key: [query[key] for query in queries] for key in (queries[0] if queries else ())}


def queries_of(row: Row) -> list[Row]:
    """The queries of a row, of which each figure is a list."""
    found = row["queries"]
    return [dict(zip(found, figures, strict=True)) for figures in zip(*found.values(), strict=True)]


def hard_table(rows: Sequence[Row]) -> str:
    """One row for each scene, case and method, and one for each method over everything.

    Subsets by distance have a row only for methods that were run on all cases of the scene which they are of.
    """
    found: dict[tuple[str, str, str], list[Row]] = {}
    sources = _sources_of_far(rows)
    for row in rows:
        scene, case, method, queries = row["scene"], row["case"], row["method"], queries_of(row)
        found.setdefault((scene, case, method), []).extend(queries)
        every = {source for (name, _), cases in sources.items() if name == scene for source in cases}
        for label, (low, high) in _FAR.items():
            if case in every and sources[scene, method] == every:
                far = [query for query in queries if low <= query["ratio"] < high]
                found.setdefault((scene, label, method), []).extend(far)
        found.setdefault(("all", "all", method), []).extend(
            {**query, "foreign": case == "foreign"} for query in queries
        )
    header = ["scene", "case", "method", "queries", "10 cm 5°", "5 cm 5°", "accepted", "falsely", "median",
              "within 3 x stated", "CPU ms"]  # fmt: skip
    order = sorted(found, key=lambda key: (key[0] == "all", key[0]))  # stable: cases as they were run
    text = table(header, [[*key, *_cells(found[key], key[1] == "foreign")] for key in order if found[key]])
    return text and f"{text}\n\n{_LEGEND}"


def _sources_of_far(rows: Sequence[Row]) -> dict[tuple[str, str], set[str]]:
    """The cases with queries that each (scene, method) was run on and that the subsets by distance are of."""
    sources: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        cases = sources.setdefault((row["scene"], row["method"]), set())
        if queries_of(row) and (row["case"] == "plain" or row["case"].startswith("stretch")):
            cases.add(row["case"])
    return sources


def _cells(queries: Sequence[Row], foreign: bool) -> list[str]:
    own = [query for query in queries if not (foreign or query.get("foreign"))]
    accepted = [query for query in own if query["ok"]]
    false = sum(query["ok"] for query in queries) - len(accepted)
    false += sum(query["metres"] > _GROSS[0] or query["degrees"] > _GROSS[1] for query in accepted)
    near = [percent(_share(_within(query, limit, 5.0) for query in own)) for limit in (0.1, 0.05)]
    stated = [query for query in accepted if query.get("stated_m") is not None]
    kept = _share(_within(query, _STATED * query["stated_m"], _STATED * query["stated_deg"])
                  for query in stated)  # fmt: skip
    median = [np.median([_known(query[key]) for query in own] or [np.inf]) for key in ("metres", "degrees")]
    total = sum(query["ok"] for query in queries)
    return [str(len(queries)), *near, str(total), str(false),
            error_text(*median, digits=2) if np.isfinite(median).all() else NONE,
            percent(kept), number(float(np.median([query["ms"] for query in queries])))]  # fmt: skip


def _within(query: Row, metres: float, degrees: float) -> bool:
    return bool(_known(query["metres"]) < metres and _known(query["degrees"]) < degrees)


def _known(value: float | None) -> float:
    """An error as JSON holds it: infinite ones are None."""
    return float("inf") if value is None else value


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
