#!/usr/bin/env python3
"""The results page: every scene at hand mapped and localized, stage by stage, beside a sparse baseline.

For each scene: `train.py --preset cpu`, the baseline, our stages, one after the other, so that they are timed
on the same machine within minutes of each other. The baseline is a stand-alone script that reads posed
folders (train/, test/ with rgb/, poses/, calibration/); other layouts are written out for it as undistorted
copies of exactly the images that we read.

NAME:first60 is the scene NAME with only the first 60 % of its training images mapped.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.accuracy_report import write_page
from benchmarks.accuracy_scenes import (
    SCENES,
    SceneVariant,
    check_unseen,
    foreign_queries,
    has_split,
    path_extent,
    prepare_for_baseline,
)
from benchmarks.machine import describe
from gsplatloc.localization.evaluation import QueryResult, calibration, metrics, stage_error
from gsplatloc.localization.io.results import localize_queries
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS
from gsplatloc.localization.landmarks.guided import GuidedOptions
from gsplatloc.localization.localizer import Localizer, LocalizerOptions, make_refiners
from gsplatloc.localization.queries import QueryImage, query_from_view
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.export import find_ply, map_files, read_ply, saved_iterations
from gsplatloc.scene.map_config import read_config
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]

BASELINES = {"mutual": (), "lighterglue": ("--matcher", "lighterglue", "--views", "5")}
_CLEARLY = 0.25  # of the prior's median error: less is noise
_LANDMARK_BYTES = 90


@dataclass(frozen=True)
class AccuracyArguments:
    """Which scenes to run and where results go."""

    scenes: tuple[str, ...] = (*SCENES, f"{SCENES[0]}:first60")
    data: Path = Path(
        os.environ.get("GSPLATLOC_DATA", ROOT.parent / "shared" / "data")
    )  # folder of the scenes
    chains: tuple[str, ...] = ("initial+lm", "prior+fine", "prior+fine+warp", "prior+warp")  # of stages
    baselines: tuple[str, ...] = ("mutual",)  # of the script's settings: mutual, lighterglue
    baseline: Path | None = None  # the sparse baseline's script; default: DATA/../tools/sparse_baseline.py
    ablation: tuple[str, ...] = SCENES[:1]  # where the prior is varied: landmarks, keypoints, second look
    foreign: int = 64  # photos of other scenes that must be rejected
    queries: int | None = None  # test images at most, evenly spaced, for a trial; the baseline takes all
    iterations: int | None = None  # of training, for a trial; unset = the preset's
    output: Path = ROOT / "output" / "accuracy"  # maps, copies and logs
    maps: Path | None = None  # folder of finished maps, MAPS/SCENE or MAPS/SCENE/map: used where there is one
    results: Path = ROOT / "benchmarks" / "results" / "accuracy.json"
    page: Path | None = (
        ROOT / "docs" / "results.md"
    )  # tables go between its marks, plots to images/ beside it


@dataclass(frozen=True)
class Run:
    """What one child process cost."""

    seconds: float
    peak_bytes: int  # largest resident size


@dataclass(frozen=True)
class Bench:
    """One scene with its map, ready to be localized in."""

    variant: SceneVariant
    map_folder: Path
    queries: list[QueryImage]
    foreign: list[QueryImage] = field(default_factory=list)


def run(command: list[str], log: Path) -> Run:
    """Run a child to its end, its output into `log`; a failure is the user's to read there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text().strip().splitlines()[-1:]
        raise GSplatLocError(f"{' '.join(command[:3])} failed with {process.returncode}: {tail}; see {log}")
    return Run(time.perf_counter() - start, usage.ru_maxrss * 1024)


def finished_map(maps: Path | None, slug: str) -> Path | None:
    """The folder of a map made before, None where there is none."""
    candidates = [] if maps is None else [maps / slug / "map", maps / slug]
    return next((path for path in candidates if saved_iterations(path)), None)


def make_map(variant: SceneVariant, source: Path, work: Path, arguments: AccuracyArguments) -> Path:
    """The scene's map: one of `--maps`, or a new one, its cost written beside it."""
    if (found := finished_map(arguments.maps, variant.slug)) is not None:
        return found
    command = [sys.executable, "train.py", "-s", str(source), "-m", str(work / "map"), "--preset", "cpu"]
    command += [] if has_split(source) else ["--eval"]
    command += [] if arguments.iterations is None else ["--iterations", str(arguments.iterations)]
    cost = run([*command, "--quiet"], work / "train.log")
    write_json(work / "mapping.json", asdict(cost))
    return work / "map"


def mapping_summary(map_folder: Path) -> dict[str, Any]:
    """What the map cost, where that was kept, and the last evaluation on held-out training views."""
    cost = map_folder.parent / "mapping.json"
    records = [json.loads(line) for line in (map_folder / "training.jsonl").read_text().splitlines()]
    evaluations = [record for record in records if record["kind"] == "holdout"]
    summary: dict[str, Any] = read_json(cost) if cost.is_file() else {"seconds": None, "peak_bytes": None}
    return {**summary, "held_out": evaluations[-1] if evaluations else None}


def map_sizes(map_folder: Path) -> dict[str, int]:
    """Bytes of the map's files: the landmarks, with the .ply that `lm` reads, and with the descriptors."""
    ply = find_ply(map_folder)
    landmarks = (map_folder / LANDMARKS).stat().st_size
    return {
        "landmarks": landmarks,
        "initial+lm": landmarks + ply.stat().st_size,
        "everything": landmarks + sum(path.stat().st_size for path in map_files(ply, descriptors=True)),
        "gaussians": len(read_ply(ply)),
    }


def stages_of(chain: str) -> tuple[str, ...]:
    return tuple(chain.split("+"))


def localize(localizer: Localizer, queries: Sequence[QueryImage]) -> list[QueryResult]:
    """Localize all queries, the first once more beforehand: it is slower."""
    localize_queries(localizer, queries[:1], quiet=True)
    return localize_queries(localizer, queries, quiet=True)


def decode_ms(queries: Sequence[QueryImage]) -> float:
    """Median time to read an image and undo its distortion, which our clock leaves out."""
    times = []
    for query in queries:
        start = time.perf_counter()
        query.load_image()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def chain_figures(bench: Bench, chain: str) -> dict[str, Any]:
    """Accuracy, cost and honesty of a chain of stages."""
    options = LocalizerOptions(stages=stages_of(chain))
    results = localize(Localizer.load(bench.map_folder, options), bench.queries)
    figures = metrics(bench.variant.slug, results, 0, options.stages)
    rows = [[stage_row(result, stage) for stage in options.stages] for result in results]
    return {
        **figures,
        "chain": chain,
        "total_mean_ms": sum(result.localization.total_ms for result in results) / max(len(results), 1),
        "degraded": {stage: degraded(results, stage) for stage in options.stages[1:]},
        "calibration": {
            stage: [asdict(part) for part in calibration(results, stage)] for stage in options.stages
        },
        "queries": [{"name": result.name, "stages": row} for result, row in zip(results, rows, strict=True)],
    }


def stage_row(result: QueryResult, stage: str) -> list[float | None]:
    """[error in m, in degrees, stated error in m, in degrees, milliseconds]; None for what there is not."""
    error, estimate = stage_error(result, stage), result.localization.stages.get(stage)
    found = [None, None] if error is None else [error.translation_m, error.rotation_deg]
    if estimate is None:
        return [*found, None, None, None]
    return [*found, estimate.expected_translation_m, estimate.expected_rotation_deg, estimate.elapsed_ms]


def degraded(results: Sequence[QueryResult], stage: str) -> dict[str, float]:
    """Share of the localized queries that a stage leaves further off than the prior did."""
    pairs = [(stage_error(result, "initial"), stage_error(result, stage)) for result in results]
    both = [(a.translation_m, b.translation_m) for a, b in pairs if a is not None and b is not None]
    before, after = torch.tensor([pair for pair in both if pair[0] < float("inf")]).reshape(-1, 2).unbind(1)
    if not len(before):
        return {"at_all": 0.0, "clearly": 0.0}
    step = _CLEARLY * before.median()
    return {
        "at_all": (after > before).float().mean().item(),
        "clearly": (after > before + step).float().mean().item(),
    }


def ablations(bench: Bench) -> list[dict[str, Any]]:
    """The prior with one choice changed at a time: accuracy, bytes, milliseconds."""
    whole = Localizer.load(bench.map_folder, LocalizerOptions(stages=("initial",)))
    options = whole.options
    variants: dict[str, LocalizerOptions] = {"as it is": options}
    for count in (512, 1024, 4096):
        variants[f"{count} keypoints"] = replace(options, top_k=count)
    variants["without the second look"] = replace(options, guided=GuidedOptions(radius_px=0))
    rows = [ablation_row(bench, label, changed) for label, changed in variants.items()]
    for count in (1_000, 2_000, 4_000, 8_000, 16_000):
        if count < len(whole.landmarks):
            rows.append(ablation_row(bench, f"{count:,} landmarks", options, count))
    return rows


def ablation_row(
    bench: Bench, label: str, options: LocalizerOptions, landmarks: int | None = None
) -> dict[str, Any]:
    """Figures of one variant of the prior, with the first so many landmarks."""
    loaded = Localizer.load(bench.map_folder, options)
    kept = loaded.landmarks.select(slice(0, landmarks))
    localizer = Localizer(kept, loaded.extractor, options=loaded.options)
    figures = metrics(label, localize(localizer, bench.queries), len(kept) * _LANDMARK_BYTES, ("initial",))
    return {"label": label, "landmarks": len(kept), "bytes": figures["map_bytes"],
            "ms": figures["total_median_ms"], **figures["final"]}  # fmt: skip


def rejection(bench: Bench) -> dict[str, int]:
    """How many photos of other places were taken for this one, with known and with unknown focal length."""
    localizer = Localizer.load(bench.map_folder, LocalizerOptions(stages=("initial",)))
    unknown: Callable[[], None] = lambda: None  # noqa: E731
    anyhow = [replace(query, load_camera=unknown) for query in bench.foreign]
    known, guessed = (
        sum(result.localization.final.ok for result in localize_queries(localizer, photos, quiet=True))
        for photos in (bench.foreign, anyhow)
    )
    return {"photos": len(bench.foreign), "accepted": known, "accepted_unknown_focal": guessed}


def run_baselines(scene: Path, work: Path, script: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """What the baseline's script wrote, with the error of every query, by kind."""
    found = {}
    for kind in kinds:
        output = work / f"baseline-{kind}.json"
        command = [sys.executable, "-m", "benchmarks.accuracy_baseline", str(script), str(scene)]
        run([*command, "--json", str(output), *BASELINES[kind]], work / f"baseline-{kind}.log")
        found[kind] = read_json(output)
    return found


def measure_scene(text: str, arguments: AccuracyArguments, script: Path) -> dict[str, Any]:
    """Map, run the baseline, localize: everything the page says of one scene."""
    variant = SceneVariant.parse(text)
    work = arguments.output / variant.slug
    source = variant.source(arguments.data, work / "scene")
    log(f"{variant.slug}: mapping")
    map_folder = make_map(variant, source, work, arguments)
    options = replace(read_config(map_folder).scene, eval=not has_split(source))
    scene = read_scene(source, options)
    check_unseen(scene, map_folder)
    views = scene.test
    if arguments.queries is not None:
        views = views[:: max(1, len(views) // arguments.queries)][: arguments.queries]
    bench = Bench(
        variant, map_folder, [query_from_view(view) for view in views],
        foreign_queries(arguments.data, variant.name, arguments.foreign),
    )  # fmt: skip
    log(f"{variant.slug}: sparse baseline")
    copy = prepare_for_baseline(source, SceneOptions(eval=options.eval), work / "baseline_scene")
    baselines = run_baselines(copy, work, script, arguments.baselines)
    log(f"{variant.slug}: localization")
    return {
        "scene": variant.slug,
        "metric": variant.metric,
        "extent": path_extent([*scene.train, *scene.test]),
        "mapping": mapping_summary(map_folder),
        "bytes": map_sizes(map_folder),
        "decode_median_ms": decode_ms(bench.queries),
        "chains": [chain_figures(bench, chain) for chain in arguments.chains],
        "ablation": ablations(bench) if text in arguments.ablation else [],
        "rejection": rejection(bench),
        "baselines": baselines,
    }


def checked_script(arguments: AccuracyArguments) -> Path:
    """The baseline's script; whatever a typing error could spoil after hours is looked at now."""
    for chain in arguments.chains:
        make_refiners(LocalizerOptions(stages=stages_of(chain)))
    unknown = [kind for kind in arguments.baselines if kind not in BASELINES]
    if unknown:
        raise GSplatLocError(f"expected baselines out of {', '.join(BASELINES)}, found {unknown[0]}")
    missing = [
        text for text in arguments.scenes if not (arguments.data / SceneVariant.parse(text).name).is_dir()
    ]
    if missing:
        raise GSplatLocError(f"expected the scene {missing[0]} in {arguments.data}, found none: see --data")
    script = arguments.baseline or arguments.data.parent / "tools" / "sparse_baseline.py"
    if arguments.baselines and not script.is_file():
        raise GSplatLocError(f"expected the sparse baseline at {script}, found none: give --baseline")
    return script.resolve()


def main() -> None:
    config = (tyro.conf.FlagConversionOff,)
    arguments = tyro.cli(AccuracyArguments, description=__doc__, config=config)
    script = checked_script(arguments)
    facts = describe(torch.device("cpu")) | {"cores": os.cpu_count()}
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    command = " ".join(["python -m benchmarks.accuracy", *words])
    results: list[dict[str, Any]] = []
    for text in arguments.scenes:
        results.append(measure_scene(text, arguments, script))
        # After each scene: an hour's figures outlive whatever befalls the next.
        write_json(arguments.results, {"command": command, "machine": facts, "results": results})
    if arguments.page is not None:
        write_page(arguments.page, [arguments.results])


if __name__ == "__main__":
    run_script(main)
