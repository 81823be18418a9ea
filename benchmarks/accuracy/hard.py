"""Hard queries: held-out stretches, far from the mapping views, turned, cropped, blurred; and foreign images.

For each scene, part of the training images is held out: stretches of 10 and of 20 consecutive views, and
single views, which are also localized under the conditions of `conditions.py`. The others are mapped. All
queries lie in one folder that every method reads: our default chain, the sparse baseline with each of its
matchers, and DISK with LightGlue on renderings of a map made with DISK. Test images are not used.

Every case of a scene and method is one row in --results, so that a run can be divided (--scenes, --methods,
--cases) and continued. Time is that of all threads of the process (CPU time), without decoding.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from benchmarks.accuracy.command import BASELINES, MapArguments, baseline_script, make_map, run_baseline
from benchmarks.accuracy.conditions import CONDITIONS, Shot, under
from benchmarks.accuracy.hard_report import columns, hard_table
from benchmarks.accuracy.scenes import (
    SCENES,
    case_of,
    check_unseen,
    foreign_queries,
    is_metric,
    link_queries,
    link_training,
    path_extent,
    write_posed_folders,
)
from benchmarks.harness import OUTPUT, RESULTS
from benchmarks.harness.child import has_split
from benchmarks.harness.record import Record, Row
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


@dataclass(frozen=True)
class HardArguments(MapArguments):
    """Which scenes, methods and cases to run, and where results go."""

    scenes: tuple[str, ...] = (*SCENES, "hololens_office", "campus_drone", "tum_livingroom1")
    """folders in --data"""
    methods: tuple[str, ...] = METHODS  # ours, settings of the sparse baseline, disk (with LightGlue)
    cases: tuple[str, ...] = CASES  # of those listed in `conditions.py`, and stretch10, stretch20, foreign
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
    for number in range(blocks if blocks >= len(_STRETCHES) else 0):
        length = _STRETCHES[number % len(_STRETCHES)]
        start = number * _BLOCK + (_BLOCK - length) // 2
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
    for number, query in enumerate(foreign_queries(data, name, foreign)):
        camera = query.load_camera()
        if camera is not None:
            shot = Shot(query.load_image(), camera, elsewhere.cam_from_world)
            yield f"foreign--{number:06d}", _shown(elsewhere, shot)


def _shown(view: View, shot: Shot) -> View:
    """The view as the shot shows it, without the depth of the image as it was."""
    return replace(
        view, camera=shot.camera, cam_from_world=shot.cam_from_world, load_image=lambda: shot.image,
        load_depth=None,
    )  # fmt: skip
