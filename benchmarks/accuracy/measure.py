"""Localization in one map: accuracy, cost, calibration and rejection of chains of stages."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.evaluation import QueryResult, calibration, metrics, stage_error
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.io.results import localize_queries, write_results
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS
from gsplatloc.localization.landmarks.file import load_landmarks
from gsplatloc.localization.localizer import Localizer, map_bytes
from gsplatloc.localization.options import DEFAULT_STAGES, INITIAL, LocalizerOptions
from gsplatloc.localization.queries import QueryImage
from gsplatloc.mapping.evaluation import ImageQuality, evaluate_views, quality_line
from gsplatloc.mapping.train import split_holdout
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.export import find_ply, load_gaussians, map_files
from gsplatloc.scene.formats import read_splat
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

Figures = dict[str, Any]

_CLEARLY = 0.25  # of the median error of the initial poses: a smaller increase may be noise
_LANDMARK_BYTES = 90
_STAGE_KEYS = ("median_translation_m", "median_rotation_deg", "recall", "failed", "accepted", "median_ms")


def stages_of(chain: str) -> tuple[str, ...]:
    return tuple(chain.split("+"))


def mapping_summary(map_folder: Path) -> Figures:
    """What the map cost, where that was recorded, its size, and its last evaluation on validation views."""
    cost_file = map_folder.parent / "mapping.json"
    cost = read_json(cost_file) if cost_file.is_file() else {}
    log_file = map_folder / "training.jsonl"
    lines = log_file.read_text().splitlines() if log_file.is_file() else []
    evaluations = [record for record in map(json.loads, lines) if "psnr" in record]
    quality = evaluations[-1] if evaluations else {}
    ply, landmarks = find_ply(map_folder), (map_folder / LANDMARKS).stat().st_size
    files = map_files(ply, descriptors=True)
    return {
        **{key: cost.get(key) for key in ("seconds", "peak_bytes", "commit")},
        **{key: quality.get(key) for key in ("psnr", "depth_error_m", "depth_within_2")},
        "landmark_bytes": landmarks,
        "bytes": landmarks + sum(path.stat().st_size for path in files),
        "gaussians": len(read_splat(ply)),
    }


def decode_ms(queries: Sequence[QueryImage]) -> float:
    """Median time to read an image and undo its distortion, which our query times leave out."""
    times = []
    for query in queries:
        start = time.perf_counter()
        query.load_image()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def localize(localizer: Localizer, queries: Sequence[QueryImage]) -> list[QueryResult]:
    """Localize all queries, the first once more beforehand: it is slower."""
    localize_queries(localizer, queries[:1], quiet=True)
    return localize_queries(localizer, queries, quiet=True)


def chain_figures(
    map_folder: Path, queries: Sequence[QueryImage], chain: str, work: Path, calibrated: bool = True
) -> Figures:
    """Accuracy, cost and calibration of a chain of stages; poses of every query go into `work`.

    The fallback belongs to the default chain: the others are measured without it.
    """
    options = LocalizerOptions(stages=stages_of(chain))
    options = replace(options, fallback=options.refinements() == DEFAULT_STAGES)
    localizer = Localizer.load(map_folder, options)
    results, stages = localize(localizer, queries), options.chain()
    ends = dict.fromkeys((stages[0], stages[-1]))
    figures = write_results(work / chain, map_folder.name, results, map_bytes(localizer), stages)
    return {
        "chain": chain,
        **{
            key: figures[key]
            for key in ("count", "failed", "features_median_ms", "total_median_ms", "map_bytes")
        },
        "final": _brief(figures["final"]),
        "stages": {name: _brief(figures["stages"][name]) for name in stages},
        "degraded": {name: degraded(results, name) for name in stages[1:]},
        "calibration": {
            name: [asdict(part) for part in calibration(results, name)] for name in stages if calibrated
        },
        # Of every query after the first and the last stage, for the plots.
        "errors_m": {name: [_translation(result, name) for result in results] for name in ends},
        "stated_m": {name: [_stated(result, name) for result in results] for name in ends if calibrated},
    }


def _brief(figures: Figures) -> Figures:
    return {key: figures[key] for key in _STAGE_KEYS}


def _translation(result: QueryResult, stage: str) -> float | None:
    error = stage_error(result, stage)
    return None if error is None else error.translation_m


def _stated(result: QueryResult, stage: str) -> float | None:
    estimate = result.localization.stages.get(stage)
    return None if estimate is None else estimate.expected_translation_m


def degraded(results: Sequence[QueryResult], stage: str) -> Figures:
    """Share of the localized queries whose error is larger after a stage than that of the initial pose."""
    pairs = [(stage_error(result, INITIAL), stage_error(result, stage)) for result in results]
    both = [(a.translation_m, b.translation_m) for a, b in pairs if a is not None and b is not None]
    before, after = torch.tensor([pair for pair in both if pair[0] < float("inf")]).reshape(-1, 2).unbind(1)
    if not len(before):
        return {"at_all": 0.0, "clearly": 0.0}
    step = _CLEARLY * before.median()
    return {
        "at_all": (after > before).float().mean().item(),
        "clearly": (after > before + step).float().mean().item(),
    }


def ablations(map_folder: Path, queries: Sequence[QueryImage]) -> list[Figures]:
    """The initial pose with one choice changed at a time: accuracy, bytes, milliseconds."""
    landmarks = load_landmarks(map_folder / LANDMARKS)
    plain = LocalizerOptions(stages=(INITIAL,))
    rows = [_ablation("default", Localizer.load(map_folder, plain), queries, len(landmarks))]
    for count in (512, 1024, 4096):
        localizer = Localizer.load(map_folder, replace(plain, top_k=count))
        rows.append(_ablation(f"{count} keypoints", localizer, queries, len(landmarks)))
    localizer = Localizer.load(map_folder, plain)
    for count in (1_000, 2_000, 4_000, 8_000, 16_000):
        if count < len(landmarks):
            initial = LandmarkPose(landmarks.select(slice(0, count)))
            fewer = Localizer(initial, localizer.extractor, max_side=localizer.max_side)
            rows.append(_ablation(f"{count:,} landmarks", fewer, queries, count))
    return rows


def _ablation(label: str, localizer: Localizer, queries: Sequence[QueryImage], landmarks: int) -> Figures:
    size = landmarks * _LANDMARK_BYTES
    figures = metrics(label, localize(localizer, queries), size, (INITIAL,))
    return {"label": label, "bytes": size, "ms": figures["total_median_ms"], **_brief(figures["final"])}


def rejection(map_folder: Path, foreign: Sequence[QueryImage]) -> Figures:
    """How many images of other places got a pose, with known and with unknown focal length."""
    localizer = Localizer.load(map_folder)
    unknown = [replace(query, load_camera=lambda: None) for query in foreign]
    accepted = [
        sum(result.localization.final.ok for result in localize_queries(localizer, images, quiet=True))
        for images in (foreign, unknown)
    ]
    return {"photos": len(foreign), "accepted": accepted[0], "accepted_unknown_focal": accepted[1]}


ViewSet = Literal["holdout", "train", "test"]


@dataclass(frozen=True)
class QualityArguments:
    """Which map is rendered, and at which views."""

    map: Path  # folder that train.py wrote
    views: ViewSet = "holdout"
    """training views that were held out (--holdout), those trained on, or the scene's test views"""
    iteration: int | None = None  # iteration of the map; unset = the latest


def chosen_views(scene: Scene, config: MapConfig, views: ViewSet) -> Sequence[View]:
    """The views asked for; which ones were held out follows from the map's settings."""
    train, holdout = split_holdout(scene.train, config.training.get("schedule", {}).get("holdout", 0))
    found = {"test": scene.test, "train": train, "holdout": holdout}[views]
    if not found:
        raise GSplatLocError(f"expected {views} views of {scene.root}, found none: choose others by --views")
    return found


def measure(arguments: QualityArguments) -> ImageQuality:
    """The figures of one map."""
    config = read_config(arguments.map)
    views = chosen_views(read_scene(config.source_path, config.scene), config, arguments.views)
    white = config.scene.white_background
    options = RenderOptions(background=(1.0, 1.0, 1.0) if white else (0.0, 0.0, 0.0))
    gaussians = load_gaussians(arguments.map, arguments.iteration)
    return evaluate_views(gaussians, views, options)


def main() -> None:
    print(quality_line(measure(tyro.cli(QualityArguments, description=__doc__))))
