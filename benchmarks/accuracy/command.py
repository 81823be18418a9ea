"""Every scene mapped and localized, one chain of stages after another, beside a sparse baseline.

For each scene: `train.py --preset cpu`, the baseline, our chains, one after the other, so that they are timed
on the same machine within minutes of each other. The baseline is a stand-alone script that reads posed
folders (train/, test/ with rgb/, poses/, calibration/); other layouts are written out for it as undistorted
copies of exactly the images that we read. NAME:first60 is the scene NAME with only the first 60 % of its
training images mapped. Results are written after every scene: a run that was stopped continues there.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks import DATA, OUTPUT, RESULTS
from benchmarks.accuracy import measure
from benchmarks.accuracy.report import publish_accuracy
from benchmarks.accuracy.scenes import (
    SCENES,
    SceneVariant,
    check_unseen,
    foreign_queries,
    path_extent,
    prepare_for_baseline,
)
from benchmarks.harness.measuring import has_split, map_scene, run
from benchmarks.harness.results import Record, RecordArguments
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import query_from_view
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import read_config
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, require_known
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.machine import commit

BASELINES = {"mutual": (), "lighterglue": ("--matcher", "lighterglue", "--views", "5")}


@dataclass(frozen=True)
class MapArguments(RecordArguments):
    """Where scenes, maps and the baseline are found."""

    data: Path = DATA  # folder of the data sets; default: $GSPLATLOC_DATA
    baseline: Path | None = None  # the sparse baseline's script; default: DATA/../tools/sparse_baseline.py
    iterations: int | None = None  # of training, for a trial; unset = the preset's
    maps: Path | None = None
    """folder of finished maps, MAPS/SCENE or MAPS/SCENE/map, which are used instead of making new ones"""


@dataclass(frozen=True)
class AccuracyArguments(MapArguments):
    """Which scenes to run, and where results go."""

    scenes: tuple[str, ...] = (*SCENES, f"{SCENES[0]}:first60")
    """folders of the scenes in --data; NAME:first60 maps the first 60 % of the training images only"""
    chains: tuple[str, ...] = ("initial+lm", "initial+fine", "initial+fine+warp", "initial+warp")
    """chains of stages to localize with"""
    baselines: tuple[str, ...] = ("mutual",)
    """settings of the sparse baseline: mutual, lighterglue; none = leave it out"""
    ablation: tuple[str, ...] = SCENES[:1]
    """scenes where numbers of landmarks and keypoints of the initial pose are varied"""
    foreign: int = 64  # images of other scenes that must be rejected
    queries: int | None = None  # test images at most, evenly spaced, for a trial; the baseline takes all
    output: Path = OUTPUT / "accuracy"  # folder for maps, copies of scenes, poses of every query, and logs
    results: Path = RESULTS / "accuracy.json"  # file of results


def main() -> None:
    arguments = tyro.cli(AccuracyArguments, description=__doc__)
    script = checked_script(arguments)
    record, failures = Record(arguments.results, arguments.keep), []
    for text in arguments.scenes:
        slug = SceneVariant.parse(text).slug
        if record.find(scene=slug) is not None:
            log(f"{slug}: measured before")
            continue
        try:
            record.put({"scene": slug}, measure_scene(text, arguments, script))
        except GSplatLocError as error:  # the other scenes are measured nevertheless
            log(f"{slug}: {error}")
            failures.append(f"{slug}: {error}")
    if failures:
        raise GSplatLocError(
            f"expected every scene to be measured, found {len(failures)} failed: {failures[0]}"
        )
    if arguments.publish:
        publish_accuracy(record.rows)


def checked_script(arguments: AccuracyArguments) -> Path:
    """The baseline's script; arguments that would fail after hours are checked now."""
    for chain in arguments.chains:
        LocalizerOptions(stages=measure.stages_of(chain)).chain()
    require_known("baselines", arguments.baselines, BASELINES, "see --baselines")
    names = [SceneVariant.parse(text).name for text in arguments.scenes]
    missing = [name for name in names if not (arguments.data / name).is_dir()]
    if missing:
        raise GSplatLocError(f"expected the scene {missing[0]} in {arguments.data}, found none: see --data")
    return baseline_script(arguments, bool(arguments.baselines))


def baseline_script(arguments: MapArguments, needed: bool) -> Path:
    script = arguments.baseline or arguments.data.parent / "tools" / "sparse_baseline.py"
    if needed and not script.is_file():
        raise GSplatLocError(f"expected the sparse baseline at {script}, found none: give --baseline")
    return script.resolve()


def measure_scene(text: str, arguments: AccuracyArguments, script: Path) -> dict[str, Any]:
    """Map, run the baseline, localize: the row of one scene."""
    variant = SceneVariant.parse(text)
    work = arguments.output / variant.slug
    source = variant.source(arguments.data, work / "scene")
    log(f"{variant.slug}: mapping")
    map_folder = make_map(variant.slug, source, work, arguments)
    options = replace(read_config(map_folder).scene, eval=not has_split(source))
    scene = read_scene(source, options)
    check_unseen(scene, map_folder)
    views = scene.test
    if arguments.queries is not None:
        views = views[:: max(1, len(views) // arguments.queries)][: arguments.queries]
    queries = [query_from_view(view) for view in views]
    log(f"{variant.slug}: sparse baseline")
    copy = prepare_for_baseline(source, SceneOptions(eval=options.eval), work / "baseline_scene")
    baselines = {kind: run_baseline(kind, copy, work, script) for kind in arguments.baselines}
    log(f"{variant.slug}: localization")
    return {
        # Absolute paths are shortened to their last part.
        "command": " ".join(Path(word).name if word.startswith("/") else word for word in sys.argv),
        "metric": variant.metric,
        "extent": path_extent([*scene.train, *scene.test]),
        "mapping": measure.mapping_summary(map_folder),
        "decode_median_ms": measure.decode_ms(queries),
        "chains": [
            measure.chain_figures(map_folder, queries, chain, work, calibrated=chain == arguments.chains[0])
            for chain in arguments.chains
        ],
        "ablation": measure.ablations(map_folder, queries) if text in arguments.ablation else [],
        "rejection": measure.rejection(
            map_folder, foreign_queries(arguments.data, variant.name, arguments.foreign)
        ),
        "baselines": baselines,
    }


def make_map(slug: str, source: Path, work: Path, arguments: MapArguments, flags: Sequence[str] = ()) -> Path:
    """The scene's map: one of `--maps`, one that this commit made before, or a new one, made with `flags`."""
    maps = arguments.maps
    for folder in [] if maps is None else [maps / slug / "map", maps / slug]:
        if saved_iterations(folder):
            return folder
    made, cost_file = work / "map", work / "mapping.json"
    cost = read_json(cost_file) if cost_file.is_file() and saved_iterations(made) else {}
    key = {"commit": commit(), "iterations": arguments.iterations}
    if arguments.keep == "none" or key != {name: cost.get(name) for name in key}:
        steps = [] if arguments.iterations is None else ["--iterations", arguments.iterations]
        taken = map_scene(source, made, work / "train.log", ["--quiet", *flags, *steps])
        write_json(cost_file, asdict(taken) | key)
    return made


def run_baseline(kind: str, scene: Path, work: Path, script: Path) -> dict[str, Any]:
    """Figures of the baseline's script, with the error of every query."""
    output = work / f"baseline-{kind}.json"
    words = ["-m", "benchmarks.accuracy.baseline", script, scene, "--json", output, *BASELINES[kind]]
    run(words, work / f"baseline-{kind}.log")
    return read_json(output)
