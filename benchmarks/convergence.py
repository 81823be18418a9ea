#!/usr/bin/env python3
"""From how far away does a refinement find home: success (5 cm, 5 degrees) against overlap with the start.

python -m benchmarks.convergence --maps output/demo/map output/accuracy/pgt_7scenes_redkitchen/map

Starts are drawn around test photos so that the 3D intersection over union with the photo's view falls on ten
levels from 0.05 to 0.65, as in Fig. 3 of GSLoc (Botashev et al. 2024). Every method refines from the same
starts, which state no covariance; the sparse prior, which needs none, is run on the same photos. A second
part starts from retrieved views, of every 8th mapping view, without and with rendered virtual views.

It takes hours. What was measured is written after every photo: stopped, it goes on with --resume.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.convergence_record import Record
from benchmarks.convergence_report import write_plot, write_tables
from benchmarks.convergence_starts import Start, StartSampler
from benchmarks.machine import describe
from gsplatloc.localization.features import Features
from gsplatloc.localization.initial.retrieval import RetrievalStart, RetrievalStartOptions
from gsplatloc.localization.initial.view_index import ViewRetrievalOptions, build_index
from gsplatloc.localization.localizer import Localizer, LocalizerOptions, make_refiners
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner
from gsplatloc.localization.refine.gsloc import GslocOptions, GslocRefiner
from gsplatloc.localization.result import PoseEstimate, Status, pose_errors
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import read_cameras, read_config
from gsplatloc.utils.console import log, progress, run_script
from gsplatloc.utils.errors import GSplatLocError

ROOT = Path(__file__).resolve().parents[1]

METHODS = ("gsloc", "warp", "fine", "lm")
ABLATIONS = ("gsloc, full size", "gsloc, 1/4 size", "gsloc, quaternion")  # 2 and 4 times smaller or larger
REFINERS: dict[str, Callable[[], Refiner]] = {
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
    queries: int = 6  # test photos of each scene at most; more of them are spread more finely
    methods: tuple[str, ...] = METHODS  # each from all starts; out of those that this file lists
    ablations: tuple[str, ...] = ABLATIONS  # likewise, on fewer photos
    ablation_queries: int = 2  # the first of the photos
    thinned: int = 8  # one mapping view in so many is kept in the second part
    retrieval_views: tuple[int, ...] = (0, 200)  # virtual views added to them; none = leave this part out
    retrieval_methods: tuple[str, ...] = ("gsloc", "warp", "fine", "lm")
    retrieval_queries: int = 30  # test photos of the second part at most
    retrieval_starts: int = 1  # retrieved views that a refinement may try, as in the paper; ours tries 3
    threads: int = 2  # of torch and of the rasterizer
    seed: int = 0  # of the starts
    resume: bool = False  # go on with what the file of results holds, instead of measuring all anew
    results: Path = ROOT / "benchmarks" / "results" / "convergence.json"
    plot: Path = ROOT / "docs" / "images" / "convergence.png"


@dataclass(frozen=True)
class Photo:
    """A test photo with what was extracted from it, and where it was taken."""

    name: str
    query: Query
    truth: torch.Tensor  # [4, 4] float64
    number: int  # among the test photos


def stage(name: str) -> Refiner:
    """A refinement of the pipeline with its default options."""
    return make_refiners(LocalizerOptions(stages=("initial", name)))[0]


def main() -> None:
    arguments = tyro.cli(ConvergenceArguments, description=__doc__)
    methods = checked_methods(arguments)
    torch.set_num_threads(arguments.threads)
    command = " ".join(["python -m benchmarks.convergence", *(shortened(word) for word in sys.argv[1:])])
    facts = {"command": command, "machine": describe(torch.device("cpu"))}
    record = Record(arguments.results, facts, arguments.resume)
    for folder in arguments.maps:
        bench = SceneBench(folder, methods, arguments, record)
        bench.converge()
        bench.retrieve()
        write_plot(record.scenes, arguments.plot)
    log("\n" + write_tables(record.scenes))


def checked_methods(arguments: ConvergenceArguments) -> dict[str, Refiner]:
    """The refinements by name; what a typing error could spoil after an hour is looked at now."""
    wanted = (*arguments.methods, *arguments.ablations, *arguments.retrieval_methods)
    if unknown := [name for name in wanted if name not in REFINERS]:
        raise GSplatLocError(f"expected methods out of {', '.join(REFINERS)}, found {unknown[0]!r}")
    for folder in arguments.maps:
        read_config(folder)
    return {name: REFINERS[name]() for name in dict.fromkeys(wanted)}


def shortened(word: str) -> str:
    return Path(word).name if word.startswith("/") else word


class SceneBench:
    """One map, and the photos that are refined in it; every figure goes into the record at once."""

    def __init__(
        self, folder: Path, methods: dict[str, Refiner], arguments: ConvergenceArguments, record: Record
    ):
        config = read_config(folder)
        self.scene = read_scene(config.source_path, config.scene)
        if not self.scene.test:
            raise GSplatLocError(f"expected test photos in {self.scene.root}, found none: map it with --eval")
        self.folder, self.methods, self.arguments = folder, methods, arguments
        options = LocalizerOptions(stages=("initial", "lm"), device="cpu")
        self.localizer = Localizer.load(folder, options)
        settings = {"seed": arguments.seed, "thinned": arguments.thinned,
                    "retrieval_starts": arguments.retrieval_starts,
                    "gaussians": len(map_of(self.localizer))}  # fmt: skip
        self.runs = record.scene(self.scene.name, settings)

    def photos(self, count: int) -> Iterator[Photo]:
        """The first of the test photos in an order whose every beginning is spread over all of them."""
        order = spread(len(self.scene.test))[:count]
        for number in progress(order, desc=self.scene.name):
            yield photo_of(self.scene.test[number], number, self.localizer)

    def converge(self) -> None:
        """Every method from starts at every overlap."""
        arguments = self.arguments
        for place, photo in enumerate(self.photos(arguments.queries)):
            chosen = (
                *arguments.methods,
                *(arguments.ablations if place < arguments.ablation_queries else ()),
            )
            missing = [name for name in chosen if not self.runs.has("runs", photo=photo.name, method=name)]
            if not self.runs.has("prior_runs", photo=photo.name):
                self.runs.add("prior_runs", [prior_row(photo, self.localizer)])
            gaussians = map_of(self.localizer)
            sampler = StartSampler(gaussians, photo.query.camera, photo.truth, arguments.seed + photo.number)
            starts = list(sampler.starts()) if missing else []
            for name in missing:
                refiner = self.methods[name]
                rows = [{"method": name, **row_of(photo, start, refiner, gaussians)} for start in starts]
                self.runs.add("runs", rows)

    def retrieve(self) -> None:
        """Every method from retrieved views: of every `thinned`-th mapping view, and of more virtual ones."""
        arguments = self.arguments
        posed = read_cameras(self.folder)[:: arguments.thinned]
        for count in arguments.retrieval_views:
            options = ViewRetrievalOptions(retrieval_views=count, seed=arguments.seed)
            index = build_index(map_of(self.localizer), posed, self.localizer.extractor, options)
            provider = RetrievalStart(index, RetrievalStartOptions(kept=arguments.retrieval_starts))
            starting = started_from(self.localizer, provider)
            views = {"mapping_views": len(posed), "virtual_views": count}
            for photo in self.photos(arguments.retrieval_queries):
                overlap = None
                for name in arguments.retrieval_methods:
                    if self.runs.has("retrieval_runs", photo=photo.name, method=name, virtual_views=count):
                        continue
                    overlap = overlap or overlap_of_best(provider, photo, self.localizer)
                    starting.refiners = (self.methods[name],)
                    row = views | {"method": name, "overlap": overlap} | localized(starting, photo)
                    self.runs.add("retrieval_runs", [row])


def spread(count: int) -> list[int]:
    """The numbers below `count`, so ordered that the first few of them are far apart: bits reversed."""
    bits = max(count - 1, 1).bit_length()
    turned = [
        sum((number >> bit & 1) << (bits - 1 - bit) for bit in range(bits)) for number in range(1 << bits)
    ]
    shares = [(number + 0.5) / (1 << bits) for number in turned]
    return list(dict.fromkeys(int(share * count) for share in shares))


def photo_of(view: View, number: int, localizer: Localizer) -> Photo:
    image = view.load_image()
    features = localizer.extractor.extract(image)
    query = Query(image, view.camera, features.keypoints, features.dense)
    return Photo(view.name, query, view.cam_from_world.double(), number)


def map_of(localizer: Localizer) -> Gaussians:
    if localizer.gaussians is None:
        raise ValueError("the localizer was loaded without Gaussians")
    return localizer.gaussians


def row_of(photo: Photo, start: Start, refiner: Refiner, gaussians: Gaussians) -> dict[str, Any]:
    """Where a refinement ends from one start, and what it costs."""
    initial = PoseEstimate(Status.OK, photo.query.camera, start.pose)
    wall, cpu = time.perf_counter(), time.process_time()
    estimate = refiner.refine(photo.query, gaussians, initial)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    metres, degrees = pose_errors(estimate.cam_from_world, photo.truth)
    found = {"error_m": metres, "error_deg": degrees, "improved": estimate.accepted}
    cost = {"ms": 1000 * wall, "cpu_ms": 1000 * cpu}
    return {"photo": photo.name, "level": start.level, "overlap": start.overlap, **found, **cost}


def prior_row(photo: Photo, localizer: Localizer) -> dict[str, Any]:
    """The same of the sparse prior, which is found without a start."""
    features = Features(photo.query.keypoints, photo.query.dense)
    cpu = time.process_time()
    estimate = localizer.initial(features, photo.query.camera)
    cpu = time.process_time() - cpu
    metres, degrees = pose_errors(estimate.cam_from_world, photo.truth)
    return {"photo": photo.name, "error_m": metres, "error_deg": degrees, "ms": estimate.elapsed_ms,
            "cpu_ms": 1000 * cpu}  # fmt: skip


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
    return {"photo": photo.name, "error_m": metres, "error_deg": degrees, "ms": found.total_ms,
            "cpu_ms": 1000 * cpu}  # fmt: skip


def overlap_of_best(provider: RetrievalStart, photo: Photo, localizer: Localizer) -> float:
    start = provider.starts(photo.query, map_of(localizer))[0]
    return StartSampler(map_of(localizer), photo.query.camera, photo.truth, 0).overlap(start.pose())


if __name__ == "__main__":
    run_script(main)
