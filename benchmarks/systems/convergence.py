"""Success (5 cm, 5 degrees) of each refinement, by the overlap of the pose that it starts from.

Poses are drawn around test images so that the 3D intersection over union with the image's view falls on ten
levels from 0.05 to 0.65, as in Fig. 3 of GSLoc (Botashev et al. 2024). Every method refines the same poses,
which state no covariance; the initial pose from landmarks, which needs none, is measured on the same images.
In a second part methods start from retrieved views, of every 8th mapping view, without and with rendered
virtual views. It takes hours: results are written after every image and method.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from matplotlib.axes import Axes

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.harness.results import (
    Record,
    RecordArguments,
    Row,
    error_text,
    number,
    origin_line,
    panels,
    percent,
    publish,
    table,
)
from benchmarks.systems.sampled_poses import LEVELS, PoseSampler
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.features import Extractor
from gsplatloc.localization.initial import InitialPose
from gsplatloc.localization.initial.retrieval import RetrievedPose
from gsplatloc.localization.initial.view_index import ViewIndexOptions, build_index
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.map_config import read_config
from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError, require_known

# name -> (refinement, options that differ from its defaults)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {}) for name in ("gsloc", "warp", "fine", "lm")
}
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gsloc, full size": ("gsloc", {"scale": 1.0}),
    "gsloc, 1/4 size": ("gsloc", {"scale": 0.25}),
    "gsloc, quaternion": ("gsloc", {"parametrization": "quaternion"}),
}
FROM_LANDMARKS = "initial pose from landmarks"
_MAX_ERROR_M, _MAX_ERROR_DEG = 0.05, 5.0  # of a success
_PANEL = (4.2, 3.2)  # inches
Error = tuple[float | None, float | None]  # metres, degrees; None where no pose was found


@dataclass(frozen=True)
class ConvergenceArguments(RecordArguments):
    """What to measure."""

    maps: tuple[Path, ...] = (OUTPUT / "demo" / "map", OUTPUT / "accuracy" / "pgt_7scenes_redkitchen" / "map")
    """folders of maps, each of a metric scene with test images"""
    queries: int = 6  # test images of each scene; more of them are spread more finely
    methods: tuple[str, ...] = tuple(METHODS)  # refinements, each from all poses
    ablations: tuple[str, ...] = tuple(ABLATIONS)  # variants, on fewer images
    ablation_queries: int = 2  # test images of each scene for the variants
    thinned: int = 8  # one mapping view in so many is kept for retrieval
    virtual_views: tuple[int, ...] = (0, 200)  # virtual views added to them; none = leave retrieval out
    retrieval_queries: int = 30  # test images of each scene for retrieval
    threads: int = 1  # threads of torch and of the rasterizer
    seed: int = 0  # of the poses
    results: Path = RESULTS / "convergence.json"  # file of results


def main() -> None:
    arguments = tyro.cli(ConvergenceArguments, description=__doc__)
    named = (*arguments.methods, *arguments.ablations)
    require_known("methods", named, METHODS | ABLATIONS, "see --methods and --ablations")
    for folder in arguments.maps:
        read_config(folder)  # a map that is missing is an error now, not after hours
    torch.set_num_threads(arguments.threads)
    record = Record(arguments.results, arguments.keep)
    for folder in arguments.maps:
        bench = SceneBench(folder, arguments, record)
        bench.refine_poses()
        bench.retrieve()
    if arguments.publish:
        publish_convergence(record.rows)


@dataclass(frozen=True)
class Photo:
    """A test image with what was extracted from it."""

    name: str
    query: Query
    truth: torch.Tensor  # [4, 4] float64
    number: int  # among the test images


class FirstView:
    """`InitialPose`: the best one of the retrieved views, as in the paper."""

    name = "retrieval"

    def __init__(self, views: InitialPose):
        self._views = views

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        return list(self._views.hypotheses(query))[:1]


class SceneBench:
    """One map, and the test images that are refined in it."""

    def __init__(self, folder: Path, arguments: ConvergenceArguments, record: Record):
        config = read_config(folder)
        self.scene = read_scene(config.source_path, config.scene)
        if not self.scene.test:
            raise GSplatLocError(f"expected test images in {self.scene.root}, found none: map it with --eval")
        self.arguments, self.record = arguments, record
        self.localizer = Localizer.load(folder, LocalizerOptions(stages=("lm",), device="cpu"))
        self.splat_map = self.localizer.splat_map
        context = StageContext(self.splat_map, self.localizer.extractor)
        self.refiners = {name: refiner(name, context) for name in METHODS | ABLATIONS}

    def photos(self, count: int) -> Iterator[Photo]:
        """`count` test images, evenly spread over all of them; a larger count adds images between these."""
        for index in progress(spread(len(self.scene.test))[:count], desc=self.scene.name):
            yield photo_of(self.scene.test[index], index, self.localizer.extractor)

    def refine_poses(self) -> None:
        """Every method from poses at every overlap."""
        arguments, gaussians = self.arguments, self.splat_map.gaussians
        for place, photo in enumerate(self.photos(arguments.queries)):
            key = {"scene": self.scene.name, "part": "initial", "photo": photo.name}
            if not self.record.find(**key):
                self.record.put(key, self._timed(photo, [self._from_landmarks]) | {"method": FROM_LANDMARKS})
            ablations = arguments.ablations if place < arguments.ablation_queries else ()
            keys = [key | {"part": "poses", "method": name} for name in (*arguments.methods, *ablations)]
            missing = [key for key in keys if not self.record.find(**key)]
            sampler = PoseSampler(gaussians, photo.query.camera, photo.truth, arguments.seed + photo.number)
            poses = list(sampler.poses()) if missing else []
            for key in missing:
                refine = self.refiners[key["method"]].refine
                given = [PoseEstimate(Status.OK, photo.query.camera, sampled.pose) for sampled in poses]
                runs = [
                    lambda photo, pose=pose, r=refine: r(photo.query, self.splat_map, pose) for pose in given
                ]
                levels = {"level": [sampled.level for sampled in poses]}
                self.record.put(key, levels | self._timed(photo, runs))

    def retrieve(self) -> None:
        """Every method from retrieved views: of every `thinned`-th mapping view, and of more virtual ones."""
        arguments, localizer = self.arguments, self.localizer
        if not arguments.virtual_views:
            return
        posed = self.splat_map.views[:: arguments.thinned]
        providers: list[FirstView] = []
        for count in arguments.virtual_views:
            options = ViewIndexOptions(virtual_views=count)
            index = build_index(self.splat_map.gaussians, posed, localizer.extractor, options)
            providers.append(FirstView(RetrievedPose(index, self.splat_map.gaussians)))
        for photo in self.photos(arguments.retrieval_queries):
            for name in arguments.methods:
                key = {"scene": self.scene.name, "part": "retrieval", "photo": photo.name, "method": name}
                if self.record.find(**key):
                    continue
                refiners = (self.refiners[name],)
                chains = [
                    Localizer(views, localizer.extractor, self.splat_map, refiners, localizer.max_side)
                    for views in providers
                ]
                runs = [
                    lambda photo, chain=chain: chain.localize(photo.query.image, photo.query.camera).final
                    for chain in chains
                ]
                facts = {"mapping_views": len(posed), "virtual_views": arguments.virtual_views,
                         "overlap": [self._overlap(views, photo) for views in providers]}  # fmt: skip
                self.record.put(key, facts | self._timed(photo, runs))

    def _from_landmarks(self, photo: Photo) -> PoseEstimate:
        return next(iter(self.localizer.initial.hypotheses(photo.query)))

    def _overlap(self, views: FirstView, photo: Photo) -> float:
        """Overlap of the retrieved view with the image's."""
        sampler = PoseSampler(self.splat_map.gaussians, photo.query.camera, photo.truth)
        return sampler.overlap(views.hypotheses(photo.query)[0].pose())

    def _timed(self, photo: Photo, runs: Sequence[Callable[[Photo], PoseEstimate]]) -> Row:
        """Errors and processor time of every run."""
        figures: Row = {"error_m": [], "error_deg": [], "cpu_ms": []}
        for run in runs:
            begin = time.process_time()
            estimate = run(photo)
            figures["cpu_ms"].append(1000 * (time.process_time() - begin))
            error = pose_error(estimate.cam_from_world, photo.truth)
            figures["error_m"].append(error.translation_m)
            figures["error_deg"].append(error.rotation_deg)
        return figures


def refiner(name: str, context: StageContext) -> Refiner:
    """A method of this benchmark."""
    stage, changed = (METHODS | ABLATIONS)[name]
    entry = REFINERS[stage]
    return entry.make(entry.options(**changed), context)


def spread(count: int) -> list[int]:
    """The numbers below `count` in an order whose first ones are far apart: by their bits reversed."""
    bits = max(count - 1, 1).bit_length()
    turned = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return list(dict.fromkeys(int((number + 0.5) / (1 << bits) * count) for number in turned))


def photo_of(view: View, number: int, extractor: Extractor) -> Photo:
    image = view.load_image()
    features = extractor.extract(image)
    query = Query(image, view.camera, features.keypoints, features.dense)
    return Photo(view.name, query, view.cam_from_world.double(), number)


def publish_convergence(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the tables, between the marks of `convergence`, and the plot below `root`."""
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    per_scene = [[row for row in rows if row["scene"] == scene] for scene in scenes]
    panels(root / "docs" / "images" / "convergence.png", per_scene, draw, _PANEL)
    tables = [
        text for found in per_scene for text in (convergence_table(found), retrieval_table(found)) if text
    ]
    return publish({"convergence": "\n\n".join([origin_line(rows), *tables])}, root)


def errors(rows: Iterable[Row], column: int | None = None) -> list[Error]:
    """All errors of some rows, or those in one column of their lists."""
    pairs = [list(zip(row["error_m"], row["error_deg"])) for row in rows]
    return [error for row in pairs for error in (row if column is None else row[column : column + 1])]


def succeeded(error: Error) -> bool:
    metres, degrees = error
    return metres is not None and degrees is not None and metres < _MAX_ERROR_M and degrees < _MAX_ERROR_DEG


def share(found: Sequence[Error]) -> float | None:
    """The share of successes; None without errors."""
    return sum(map(succeeded, found)) / len(found) if found else None


def per_level(rows: Sequence[Row]) -> list[float | None]:
    """Success at every level of overlap."""
    at: dict[int, list[Error]] = {}
    for row in rows:
        for level, error in zip(row["level"], errors([row]), strict=True):
            at.setdefault(level, []).append(error)
    return [share(at.get(level, [])) for level in range(len(LEVELS))]


def part(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """The rows of one part, by method."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] == name:
            found.setdefault(row["method"], []).append(row)
    return found


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Success against overlap in one scene; variants dashed, the initial pose from landmarks dotted."""
    methods = part(rows, "poses")
    for name, found in methods.items():
        known = [(level, 100 * value) for level, value in zip(LEVELS, per_level(found)) if value is not None]
        axes.plot(*zip(*known), "--" if "," in name else "-", marker="o", ms=3, lw=1.2, label=name)
    for name, found in part(rows, "initial").items():
        axes.axhline(100 * (share(errors(found)) or 0.0), color="k", ls=":", lw=1, label=name)
    most = max((len(found) for found in methods.values()), default=0)
    axes.set(title=f"{rows[0]['scene']}, {most} images", ylim=(-2, 102),
             xlabel="3D IoU with the image's view", ylabel="within 5 cm and 5°, %")  # fmt: skip


def convergence_table(rows: Sequence[Row]) -> str:
    """One row per method: success at every level, errors of the successes, cost."""
    lines = [
        [name, str(len(found)), *(number(share, 0, 100) for share in per_level(found)), *_cost(found)]
        for name, found in part(rows, "poses").items()
    ]
    for name, found in part(rows, "initial").items():
        success = number(share(errors(found)), 0, 100)
        lines.append([name, str(len(found)), *len(LEVELS) * [success], *_cost(found)])
    levels = [f"{level:.2f}" for level in LEVELS]
    return table([rows[0]["scene"], "images", *levels, "errors of successes", "CPU ms"], lines)


def retrieval_table(rows: Sequence[Row]) -> str:
    """One row per method: success without and with virtual views, side by side."""
    methods = part(rows, "retrieval")
    if not methods:
        return ""
    every = [row for found in methods.values() for row in found]
    columns = range(len(every[0]["virtual_views"]))
    overlaps = [f"{median(row['overlap'][i] for row in every):.2f}" for i in columns]
    images = len({row["photo"] for row in every})
    lines = [["overlap of the retrieved view, median", str(images), *overlaps]]
    lines += [
        [name, str(len(found)), *(percent(share(errors(found, i)), 0) for i in columns)]
        for name, found in methods.items()
    ]
    title = f"{rows[0]['scene']}, retrieved among {every[0]['mapping_views']} views and so many virtual ones"
    return table([title, "images", *map(str, every[0]["virtual_views"])], lines)


def _cost(rows: Sequence[Row]) -> list[str]:
    """Median errors of the successes, and the median processor time of all."""
    good = [error for error in errors(rows) if succeeded(error)]
    metres, degrees = (median(error[i] or 0.0 for error in good) if good else None for i in (0, 1))
    return [error_text(metres, degrees, 2), f"{median(ms for row in rows for ms in row['cpu_ms']):.0f}"]
