#!/usr/bin/env python3
"""From how far away does a refinement find home: success (5 cm, 5 degrees) against overlap with the start.

python benchmarks/convergence.py --maps output/demo/map output/accuracy/pgt_7scenes_redkitchen/map

Starts are drawn around test photos so that the 3D intersection over union with the photo's view falls on ten
levels from 0.05 to 0.65, as in Fig. 3 of GSLoc (Botashev et al. 2024). Every method refines from the same
starts, which state no covariance; the sparse prior, which needs none, is run on the same photos. A second
part starts from retrieved views, of every 8th mapping view, without and with rendered virtual views.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.convergence_report import write_plot, write_tables  # noqa: E402
from benchmarks.convergence_starts import LEVELS, Start, StartSampler  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from localization.features import Features  # noqa: E402
from localization.pipeline import Localizer, LocalizerOptions, make_refiners  # noqa: E402
from localization.refine import Query, Refiner  # noqa: E402
from localization.refine.gsloc import GslocOptions, GslocRefiner  # noqa: E402
from localization.result import PoseEstimate, Status, pose_errors  # noqa: E402
from localization.starts import RetrievalStart, RetrievalStartOptions  # noqa: E402
from localization.view_retrieval import ViewRetrievalOptions, build_index  # noqa: E402
from scene import read_scene  # noqa: E402
from scene.cameras import View  # noqa: E402
from scene.gaussians import Gaussians  # noqa: E402
from scene.map_config import read_cameras, read_config  # noqa: E402
from utils.console import log, progress, run_script  # noqa: E402
from utils.errors import GSplatLocError  # noqa: E402
from utils.io import write_json  # noqa: E402

_MAX_ERROR_M, _MAX_ERROR_DEG = 0.05, 5.0  # of a success

METHODS: dict[str, Callable[[], Refiner]] = {
    "gsloc": lambda: GslocRefiner(),
    "gsloc, full size": lambda: GslocRefiner(GslocOptions(scale=1.0)),
    "gsloc, 1/4 size": lambda: GslocRefiner(GslocOptions(scale=0.25)),
    "gsloc, quaternion": lambda: GslocRefiner(GslocOptions(parametrization="quaternion")),
    "lm": lambda: stage("lm"),
    "fine": lambda: stage("fine"),
    "warp": lambda: stage("warp"),
}


@dataclass(frozen=True)
class ConvergenceArguments:
    """What to measure."""

    maps: tuple[Path, ...]  # folders of maps, each of a scene with test photos in metres
    queries: int = 20  # test photos of each scene at most, evenly spaced
    methods: tuple[str, ...] = tuple(METHODS)  # of those that this file lists
    thinned: int = 8  # one mapping view in so many is kept in the second part
    retrieval_views: tuple[int, ...] = (0, 100)  # virtual views added to them; none = leave this part out
    retrieval_methods: tuple[str, ...] = ("lm", "gsloc")
    retrieval_starts: int = 1  # retrieved views that a refinement may try, as in the paper; ours tries 3
    threads: int = 2  # of torch and of the rasterizer
    seed: int = 0  # of the starts
    results: Path = ROOT / "benchmarks" / "results" / "convergence.json"
    plot: Path = ROOT / "docs" / "images" / "convergence.png"


@dataclass(frozen=True)
class Photo:
    """A test photo with what was extracted from it, and where it was taken."""

    name: str
    query: Query
    truth: torch.Tensor  # [4, 4] float64


def stage(name: str) -> Refiner:
    """A refinement of the pipeline with its default options."""
    return make_refiners(LocalizerOptions(stages=("prior", name)))[0]


def main() -> None:
    arguments = tyro.cli(ConvergenceArguments, description=__doc__)
    methods = checked_methods(arguments)
    torch.set_num_threads(arguments.threads)
    facts = describe(torch.device("cpu")) | {"threads": arguments.threads}
    command = " ".join(["python benchmarks/convergence.py", *(shortened(word) for word in sys.argv[1:])])
    scenes: list[dict[str, Any]] = []
    for folder in arguments.maps:
        scenes.append(measure_scene(folder, methods, arguments))
        # After each scene: what was measured outlives whatever befalls the next.
        write_json(arguments.results, {"command": command, "machine": facts, "scenes": scenes})
    write_plot(scenes, arguments.plot)
    log("\n" + write_tables(scenes))


def checked_methods(arguments: ConvergenceArguments) -> dict[str, Refiner]:
    """The refinements by name; what a typing error could spoil after an hour is looked at now."""
    unknown = [name for name in (*arguments.methods, *arguments.retrieval_methods) if name not in METHODS]
    if unknown:
        raise GSplatLocError(f"expected methods out of {', '.join(METHODS)}, found {unknown[0]!r}")
    for folder in arguments.maps:
        read_config(folder)
    return {
        name: METHODS[name]() for name in dict.fromkeys((*arguments.methods, *arguments.retrieval_methods))
    }


def shortened(word: str) -> str:
    return Path(word).name if word.startswith("/") else word


def measure_scene(
    folder: Path, methods: dict[str, Refiner], arguments: ConvergenceArguments
) -> dict[str, Any]:
    """All figures of one map."""
    config = read_config(folder)
    scene = read_scene(config.source_path, config.scene)
    if not scene.test:
        raise GSplatLocError(f"expected test photos in {scene.root}, found none: map it with --eval")
    localizer = Localizer.load(folder, LocalizerOptions(stages=("prior", "lm"), device="cpu"))
    photos = [photo_of(view, localizer) for view in evenly(scene.test, arguments.queries)]
    started = [(photo, starts_of(photo, localizer, arguments.seed + number))
               for number, photo in enumerate(progress(photos, desc=f"{scene.name}: starts"))]  # fmt: skip
    figures = {
        "scene": scene.name,
        "photos": len(photos),
        "levels": list(LEVELS),
        "starts": [sum(start.level == level for _, starts in started for start in starts)
                   for level in range(len(LEVELS))],
        "prior": prior_figures(photos, localizer),
        "methods": {name: method_figures(f"{scene.name}: {name}", started, methods[name], localizer)
                    for name in arguments.methods},
    }  # fmt: skip
    if arguments.retrieval_views:
        chosen = {name: methods[name] for name in arguments.retrieval_methods}
        figures["retrieval"] = retrieval_figures(folder, scene.test, localizer, chosen, arguments)
    return figures


def evenly(views: Sequence[View], count: int) -> list[View]:
    step = max(1, len(views) // max(count, 1))
    return list(views[step // 2 :: step][:count])


def photo_of(view: View, localizer: Localizer) -> Photo:
    image = view.load_image()
    features = localizer.extractor.extract(image)
    query = Query(image, view.camera, features.keypoints, features.dense)
    return Photo(view.name, query, view.cam_from_world.double())


def starts_of(photo: Photo, localizer: Localizer, seed: int) -> list[Start]:
    sampler = StartSampler(map_of(localizer), photo.query.camera, photo.truth, seed)
    return list(sampler.starts())


def map_of(localizer: Localizer) -> Gaussians:
    if localizer.gaussians is None:
        raise ValueError("the localizer was loaded without Gaussians")
    return localizer.gaussians


def method_figures(
    label: str, started: Sequence[tuple[Photo, Sequence[Start]]], refiner: Refiner, localizer: Localizer
) -> dict[str, Any]:
    """Success per level, errors of the successes, and what a refinement costs."""
    rows = []
    for photo, starts in progress(started, desc=label):
        for start in starts:
            prior = PoseEstimate(Status.OK, photo.query.camera, start.pose)
            wall, cpu = time.perf_counter(), time.process_time()
            estimate = refiner.refine(photo.query, map_of(localizer), prior)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            metres, degrees = pose_errors(estimate.cam_from_world, photo.truth)
            rows.append({"photo": photo.name, "level": start.level, "overlap": start.overlap,
                         "error_m": metres, "error_deg": degrees, "improved": estimate.improved,
                         "ms": 1000 * wall, "cpu_ms": 1000 * cpu})  # fmt: skip
    return {
        "success": [share([row for row in rows if row["level"] == level]) for level in range(len(LEVELS))],
        **summary(rows),
        "runs": rows,
    }


def prior_figures(photos: Sequence[Photo], localizer: Localizer) -> dict[str, Any]:
    """The same of the sparse prior, which is found without a start."""
    rows = []
    for photo in photos:
        features = Features(photo.query.keypoints, photo.query.dense)
        cpu = time.process_time()
        estimate = localizer.prior(features, photo.query.camera)
        metres, degrees = pose_errors(estimate.cam_from_world, photo.truth)
        rows.append({"error_m": metres, "error_deg": degrees, "ms": estimate.elapsed_ms,
                     "cpu_ms": 1000 * (time.process_time() - cpu)})  # fmt: skip
    return {"success": share(rows), **summary(rows)}


def retrieval_figures(
    folder: Path,
    views: Sequence[View],
    localizer: Localizer,
    methods: dict[str, Refiner],
    arguments: ConvergenceArguments,
) -> list[dict[str, Any]]:
    """Success from retrieved views, of every `thinned`-th mapping view, with more and more virtual ones."""
    posed = read_cameras(folder)[:: arguments.thinned]
    photos = [photo_of(view, localizer) for view in evenly(views, arguments.queries)]
    rows = []
    for count in arguments.retrieval_views:
        options = ViewRetrievalOptions(retrieval_views=count, seed=arguments.seed)
        index = build_index(map_of(localizer), posed, localizer.extractor, options)
        provider = RetrievalStart(index, RetrievalStartOptions(kept=arguments.retrieval_starts))
        row: dict[str, Any] = {"mapping_views": len(posed), "virtual_views": len(index) - len(posed)}
        starting = started_from(localizer, provider)
        for name, refiner in methods.items():
            starting.refiners = (refiner,)
            found = [localized(starting, photo) for photo in progress(photos, desc=f"{count} views, {name}")]
            row[name] = {"success": share(found), **summary(found)}
        row["overlap"] = [overlap_of_best(provider, photo, localizer) for photo in photos]
        rows.append(row)
    return rows


def started_from(localizer: Localizer, provider: RetrievalStart) -> Localizer:
    """The same map, started from retrieved views."""
    return Localizer(
        localizer.landmarks, localizer.extractor, localizer.gaussians, (), localizer.options, provider
    )


def localized(localizer: Localizer, photo: Photo) -> dict[str, Any]:
    cpu = time.process_time()
    found = localizer.localize(photo.query.image, photo.query.camera)
    cpu = time.process_time() - cpu
    metres, degrees = pose_errors(found.final.cam_from_world, photo.truth)
    return {"error_m": metres, "error_deg": degrees, "ms": found.total_ms, "cpu_ms": 1000 * cpu}


def overlap_of_best(provider: RetrievalStart, photo: Photo, localizer: Localizer) -> float:
    start = provider.starts(photo.query, map_of(localizer))[0]
    return StartSampler(map_of(localizer), photo.query.camera, photo.truth, 0).overlap(start.pose())


def succeeded(row: dict[str, Any]) -> bool:
    return bool(row["error_m"] < _MAX_ERROR_M and row["error_deg"] < _MAX_ERROR_DEG)


def share(rows: Sequence[dict[str, Any]]) -> float | None:
    """Of successes; None of nothing."""
    return sum(succeeded(row) for row in rows) / len(rows) if rows else None


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Median errors of the successes, and median cost of all."""
    good = [row for row in rows if succeeded(row)]
    figures = {f"median_{key}": middle([row[key] for row in good]) for key in ("error_m", "error_deg")}
    return figures | {f"median_{key}": middle([row[key] for row in rows]) for key in ("ms", "cpu_ms")}


def middle(values: Sequence[float]) -> float | None:
    return torch.tensor(values, dtype=torch.float64).quantile(0.5).item() if values else None


if __name__ == "__main__":
    run_script(main)
