#!/usr/bin/env python3
"""GS-CPR on real images: coarse poses of known error in, refined poses and a table out.

python -m benchmarks.pose_refinement --map OUT [--queries 12] [--coarse 20cm_10deg retrieval] [--timed]

Rows stay in the file of figures: what was measured there of the same map, with the same options and photos,
is not measured again, so a run that was cut short goes on where it ended. Times are recorded with `--timed`
only, on a machine that does nothing else; it repeats the rows that have none.

Coarse poses are the true ones of the scene's test images, moved by exactly so many centimetres in a random
direction and turned by exactly so many degrees about a random axis, the same in every run; or those of the
rendered mapping views that look most alike. Every variant refines the same ones. With `--scene`, another part
of the scene may be held out: parameters are chosen on training views, never on test images.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks.machine import describe, short_commit
from gsplatloc.localization.alignment.exposure import FILE_NAME as EXPOSURE_NAME
from gsplatloc.localization.evaluation import QueryResult, metrics
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.initial.retrieval import RetrievalStart
from gsplatloc.localization.initial.view_index import build_index
from gsplatloc.localization.localizer import LocalizerOptions
from gsplatloc.localization.map_refiner import INITIAL, CoarseQuery, MapRefiner, refine_queries
from gsplatloc.localization.queries import Query, query_from_view
from gsplatloc.localization.refine.gscpr import GscprOptions
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import read_cameras, read_config
from gsplatloc.utils import se3
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]

RETRIEVAL = "retrieval"
NOISE = {"5cm_2deg": (5, 2), "10cm_5deg": (10, 5), "20cm_10deg": (20, 10), "40cm_15deg": (40, 15)}
ABLATED_ON = "20cm_10deg"  # the error that ablations start from


@dataclass(frozen=True)
class Variant:
    """One way to refine."""

    name: str
    options: GscprOptions = field(default_factory=GscprOptions)
    stages: tuple[str, ...] = ("gscpr",)
    ablation: bool = False  # run from `ABLATED_ON` only, after everything else


def rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def variants(has_network: bool) -> list[Variant]:
    """What is compared: rounds, matcher, use of depth, colours and, from one error, more of each."""
    plain = GscprOptions()
    lighterglue = replace(plain, matcher="lighterglue")
    rows = [Variant(f"mutual, {rounds(n)}", replace(plain, rounds=n)) for n in (1, 2)]
    rows += [
        Variant("lighterglue, 1 round", replace(lighterglue, rounds=1)),
        Variant("mutual, 2 rounds, relative", replace(plain, relative=True)),
        Variant("mutual, 2 rounds, affine", replace(plain, exposure="affine")),
        Variant("mutual, 3 rounds", replace(plain, rounds=3), ablation=True),
        Variant("lighterglue, 2 rounds", lighterglue, ablation=True),
        Variant("mutual, 1 round, relative", replace(plain, rounds=1, relative=True), ablation=True),
        Variant("mutual, 1 round, then lm", replace(plain, rounds=1), ("gscpr", "lm"), ablation=True),
        Variant("lm alone", stages=("lm",), ablation=True),
        Variant("fine alone", stages=("fine",), ablation=True),
    ]
    if has_network:
        rows.append(Variant("mutual, 2 rounds, act", replace(plain, exposure="act"), ablation=True))
    return rows


@dataclass(frozen=True)
class RefinementArguments:
    """What to measure, on what."""

    map: Path
    """folder of the map, as train.py wrote it"""
    scene: Path | None = None
    """folder of the scene whose test images are refined; unset = the one that the map was made from"""
    coarse: tuple[str, ...] = (*NOISE, RETRIEVAL)
    """errors of the coarse poses"""
    only: str = ""
    """run only the variants whose name contains this"""
    queries: int = 0
    """test images, evenly over all of them; 0 = all"""
    timed: bool = False
    """record times: this machine does nothing else"""
    again: bool = False
    """measure everything anew, whatever the file of figures holds"""
    output: Path = ROOT / "benchmarks" / "results" / "pose_refinement.json"
    """file that the figures are written to, and rows measured earlier are read from"""


def moved(truth: Tensor, centimetres: float, degrees: float, generator: torch.Generator) -> Tensor:
    """A pose [4, 4] whose centre is exactly so far from the true one's, its axes turned by so much."""
    shift, axis = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator, dtype=torch.float64))
    world_from_cam = se3.inverse(truth)
    world_from_cam[:3, 3] += shift * centimetres / 100
    turn = se3.so3_exp(axis * math.radians(degrees))
    return se3.from_rotation_translation(turn, torch.zeros(3, dtype=torch.float64)) @ se3.inverse(
        world_from_cam
    )


def noisy_queries(views: Sequence[View], kind: str) -> list[CoarseQuery]:
    """The views with poses of the error called `kind`; a view's own does not depend on the others."""
    coarse = []
    for view in views:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{view.name} {kind}".encode()))
        pose = moved(view.cam_from_world, *NOISE[kind], generator)
        coarse.append(CoarseQuery(query_from_view(view), pose))
    return coarse


def retrieved_queries(views: Sequence[View], map_folder: Path) -> list[CoarseQuery]:
    """The views with the pose of the rendered mapping view that looks most like them."""
    gaussians, extractor = load_gaussians(map_folder), XFeatExtractor()
    start = RetrievalStart(build_index(gaussians, read_cameras(map_folder), extractor))
    coarse = []
    for view in views:
        image = view.load_image()
        features = extractor.extract(image)
        query = Query(image, view.camera, features.keypoints, features.dense)
        coarse.append(CoarseQuery(query_from_view(view), start.starts(query, gaussians)[0].pose()))
    return coarse


def measure(
    arguments: RefinementArguments, wanted: Callable[[str, Variant, int], bool]
) -> Iterator[dict[str, Any]]:
    """Figures of every coarse error and variant that is `wanted`, of so many photos, as they come."""
    views = views_to_refine(arguments)
    chosen = [v for v in variants((arguments.map / EXPOSURE_NAME).is_file()) if arguments.only in v.name]
    if not chosen:
        raise GSplatLocError(f"expected a part of a variant's name, found {arguments.only!r}: see --only")
    for ablation in (False, True):
        for kind in arguments.coarse:
            todo = [v for v in chosen if v.ablation == ablation and wanted(kind, v, len(views))]
            if not todo or (ablation and kind != ABLATED_ON):
                continue
            retrieved = kind == RETRIEVAL
            queries = retrieved_queries(views, arguments.map) if retrieved else noisy_queries(views, kind)
            for variant in todo:
                yield row(kind, variant, refined(arguments.map, variant, queries, arguments.timed))


def refined(
    map_folder: Path, variant: Variant, queries: Sequence[CoarseQuery], warm: bool = False
) -> list[QueryResult]:
    """All queries, one after another; `warm`: after one that does not count, which loads the networks."""
    options = LocalizerOptions(gscpr=variant.options, device="cpu")
    refiner = MapRefiner.load(map_folder, variant.stages, options)
    if warm:
        refine_queries(refiner, queries[:1], quiet=True)
    return refine_queries(refiner, queries, quiet=True)


def views_to_refine(arguments: RefinementArguments) -> list[View]:
    """The test images asked for; raises `GSplatLocError` where there are none."""
    unknown = [kind for kind in arguments.coarse if kind not in (*NOISE, RETRIEVAL)]
    if unknown:
        raise GSplatLocError(
            f"expected errors among {', '.join((*NOISE, RETRIEVAL))}, found {unknown[0]}: see --coarse"
        )
    config = read_config(arguments.map)
    views = read_scene(arguments.scene or config.source_path, config.scene).test
    if not views:
        raise GSplatLocError("expected test images, found none: choose a scene that has some with --scene")
    count = min(arguments.queries, len(views)) if arguments.queries > 0 else len(views)
    return [views[i * len(views) // count] for i in range(count)]


def row(kind: str, variant: Variant, results: Sequence[QueryResult]) -> dict[str, Any]:
    figures = metrics(kind, results, 0, (INITIAL, *variant.stages))
    final = figures["final"]
    keys = ("median_translation_m", "median_rotation_deg", "p90_translation_m", "recall", "median_ms")
    return {
        "initial": kind,
        "coarse_median_m": figures["stages"][INITIAL]["median_translation_m"],
        "coarse_median_deg": figures["stages"][INITIAL]["median_rotation_deg"],
        "variant": variant.name,
        "options": asdict(variant.options),
        "stages": variant.stages,
        "count": figures["count"],
        "improved": figures["stages"][variant.stages[0]]["improved"],
        **{key: final[key] for key in keys},
    }


def key(found: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is of; the same key, the same poses."""
    return found["initial"], found["variant"], found["count"], repr(found["options"]), tuple(found["stages"])


class Record:
    """The file of figures: rows of this run beside those of earlier ones of the same map."""

    def __init__(self, arguments: RefinementArguments):
        self._arguments = arguments
        self._map = map_version(arguments.map)
        found = read_json(arguments.output) if arguments.output.is_file() and not arguments.again else {}
        rows = found.get("rows", []) if found.get("map_version") == self._map else []
        self.rows = {key(earlier): earlier for earlier in rows}

    def lacks(self, kind: str, variant: Variant, count: int) -> bool:
        """Whether a row is still to be measured: it is not there, or not timed and should be."""
        earlier = self.rows.get((kind, variant.name, count, repr(asdict(variant.options)), variant.stages))
        return earlier is None or (self._arguments.timed and earlier["median_ms"] is None)

    def add(self, figures: dict[str, Any], machine: dict[str, Any]) -> None:
        """Take in a row, and write the file. A time without `--timed` would say nothing: it is left out."""
        if not self._arguments.timed:
            figures = {**figures, "median_ms": None}
        self.rows[key(figures)] = {**figures, "machine": machine}
        write_json(
            self._arguments.output,
            {"machine": machine, "map_version": self._map, "rows": in_order(list(self.rows.values()))},
        )


def map_version(folder: Path) -> str:
    """Changes with the map's Gaussians."""
    splats = sorted(folder.glob("point_cloud/iteration_*/point_cloud.ply"))
    if not splats:
        raise GSplatLocError(f"expected a map in {folder}, found none: make one with train.py")
    return f"{zlib.crc32(splats[-1].read_bytes()):08x}"


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By coarse error, then as variants are listed."""
    kinds, names = (*NOISE, RETRIEVAL), [variant.name for variant in variants(has_network=True)]
    return sorted(rows, key=lambda found: (kinds.index(found["initial"]), names.index(found["variant"])))


HEADER = (
    "| coarse | refinement | photos | median error | 5 cm 5° | 2 cm 2° | 1 cm 1° | accepted | ms |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def caption(found: dict[str, Any]) -> str:
    """What the rows were measured with: they need not be of one run."""
    timed = [row["machine"] for row in found["rows"] if row["median_ms"] is not None]
    commits = sorted({short_commit(row["machine"]["commit"]) for row in found["rows"]})
    text = f"Accuracy measured at commit {', '.join(commits)}."
    if not timed:
        return f"{text} Times have not been measured."
    machines = sorted(
        {f"{m['threads']} cores of {m['name']}, commit {short_commit(m['commit'])}" for m in timed}
    )
    return f"{text} Milliseconds a photo, on {'; '.join(machines)}; rows without one were not timed."


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All rows as a table, in Markdown."""
    return "\n".join([*HEADER, *(line(figures) for figures in rows)])


def line(figures: dict[str, Any]) -> str:
    """A row of the table, in Markdown."""
    recall, share = figures["recall"], figures["improved"] / figures["count"]
    centimetres, degrees = 100 * figures["coarse_median_m"], figures["coarse_median_deg"]
    return (
        f"| {figures['coarse']} ({centimetres:.1f} cm, {degrees:.1f}°) | {figures['variant']}"
        f" | {figures['count']} | {100 * figures['median_translation_m']:.3f} cm /"
        f" {figures['median_rotation_deg']:.3f}° | {100 * recall['5cm_5deg']:.1f} % |"
        f" {100 * recall['2cm_2deg']:.1f} % | {100 * recall['1cm_1deg']:.1f} % | {100 * share:.0f} % |"
        f" {'' if figures['median_ms'] is None else format(figures['median_ms'], '.0f')} |"
    )


def main() -> None:
    arguments = tyro.cli(RefinementArguments, description=__doc__)
    machine = describe(torch.device("cpu"))
    record = Record(arguments)
    log("\n".join([*HEADER, *(line(figures) for figures in record.rows.values())]))
    for figures in measure(arguments, record.lacks):
        record.add(figures, machine)
        log(line(figures))


if __name__ == "__main__":
    run_script(main)
