"""GS-CPR on real images: given poses of known error, refined poses, and images in another light than the map.

Given poses are the true ones of a scene's test images, moved by exactly so many centimetres in a random
direction and turned by exactly so many degrees about a random axis, the same in every run; or those of the
rendered mapping views that look most alike. Every variant refines the same ones. With `--act`, a map of the
same scene made with `--exposure_model act`, transforms of the rendering's colours are compared on the images
as they are and with their gain, gamma and white balance changed. Times are recorded with `--timed` only, on a
machine that does nothing else.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.harness.results import (
    Record,
    RecordArguments,
    Row,
    error_text,
    number,
    origin_line,
    percent,
    publish,
    table,
)
from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.exposure import FILE_NAME, fit_affine, load_exposure, to_rgb
from gsplatloc.localization.evaluation import metrics
from gsplatloc.localization.io.results import localize_queries
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import INITIAL, LocalizerOptions
from gsplatloc.localization.queries import QueryImage, query_from_view
from gsplatloc.localization.refine.members import Exposure, GscprOptions
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import find_ply, load_gaussians
from gsplatloc.scene.map_config import read_config
from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, require_known

RETRIEVAL = "retrieval"
# name -> (centimetres, degrees)
NOISE = {"5cm_2deg": (5, 2), "10cm_5deg": (10, 5), "20cm_10deg": (20, 10), "40cm_15deg": (40, 15)}
VARIANTS = {
    "mutual, 1 round": GscprOptions(rounds=1),
    "mutual, 2 rounds": GscprOptions(),
    "lighterglue, 1 round": GscprOptions(rounds=1, matcher="lighterglue"),
    "mutual, 2 rounds, relative": GscprOptions(relative=True),
    "mutual, 2 rounds, affine": GscprOptions(exposure="affine"),
}
_LIGHT_FROM = "20cm_10deg"  # the given poses of images in another light
_KEYS = ("median_translation_m", "median_rotation_deg", "recall", "median_ms")


@dataclass(frozen=True)
class RefinementArguments(RecordArguments):
    """What to measure, on what."""

    map: Path = OUTPUT / "accuracy" / "pgt_7scenes_redkitchen" / "map"
    """folder of the map, as train.py wrote it"""
    act: Path | None = None
    """folder of a map of the same scene by train.py --exposure_model act; unset = exposure is left out"""
    scene: Path | None = None
    """folder of the scene whose test images are refined; unset = the one that the map was made from"""
    given: tuple[str, ...] = (*NOISE, RETRIEVAL)  # errors of the given poses; none = leave this part out
    queries: int = 0  # test images, evenly over all of them; 0 = all
    timed: bool = False  # record times: this machine does nothing else
    results: Path = RESULTS / "refinement.json"  # file of results


def main() -> None:
    arguments = tyro.cli(RefinementArguments, description=__doc__)
    require_known("errors", arguments.given, (*NOISE, RETRIEVAL), "see --given")
    record, views = Record(arguments.results, arguments.keep), views_to_refine(arguments)
    refine_given_poses(arguments, views, record)
    if arguments.act is not None:
        compare_exposures(arguments, views, record)
    if arguments.publish:
        publish_refinement(record.rows)


def views_to_refine(arguments: RefinementArguments) -> list[View]:
    """The test images asked for; raises `GSplatLocError` where there are none."""
    config = read_config(arguments.map)
    views = read_scene(arguments.scene or config.source_path, config.scene).test
    if not views:
        raise GSplatLocError("expected test images, found none: choose a scene that has some with --scene")
    count = min(arguments.queries, len(views)) if arguments.queries > 0 else len(views)
    return [views[i * len(views) // count] for i in range(count)]


def refine_given_poses(arguments: RefinementArguments, views: Sequence[View], record: Record) -> None:
    """Every variant from every error of the given poses."""
    version = map_version(arguments.map)
    for kind in arguments.given:
        queries: list[QueryImage] = []
        for variant, options in VARIANTS.items():
            key = {"part": "poses", "given": kind, "variant": variant, "map": version, "count": len(views)}
            found = record.find(**key)
            if found is None or (arguments.timed and found["median_ms"] is None):
                queries = queries or given_queries(views, kind, arguments.map)
                figures = refined(arguments.map, options, queries, arguments.timed)
                log(" | ".join(_line(record.put(key, figures))))


def compare_exposures(arguments: RefinementArguments, views: Sequence[View], record: Record) -> None:
    """Every colour transform of the rendering in both maps, with images as they are and in another light."""
    lights: dict[str, Callable[[View], View]] = {
        "as they are": lambda view: view,
        "other light": in_other_light,
    }
    for light, change in lights.items():
        shown = [change(view) for view in views]
        for name, folder in {"plain": arguments.map, "act": arguments.act}.items():
            for exposure in get_args(Exposure):
                key = {"part": "exposure", "light": light, "map": name, "variant": exposure,
                       "count": len(views)}  # fmt: skip
                if folder is None or (exposure == "act" and name == "plain") or record.find(**key):
                    continue
                queries = given_queries(shown, _LIGHT_FROM, folder)
                figures = refined(folder, GscprOptions(exposure=exposure), queries)
                record.put(key, figures | {"psnr": psnr(folder, shown, exposure)})


def refined(folder: Path, options: GscprOptions, queries: Sequence[QueryImage], timed: bool = False) -> Row:
    """Figures of GS-CPR from given poses."""
    chosen = LocalizerOptions(initial="given", stages=("gscpr",), settings=(options,), device="cpu")
    localizer = Localizer.load(folder, chosen)
    if timed:
        localize_queries(localizer, queries[:1], quiet=True)  # loads the networks
    figures = metrics("", localize_queries(localizer, queries, quiet=True), 0, chosen.chain())
    first, final = figures["stages"][INITIAL], figures["final"]
    row: dict[str, Any] = {key: final[key] for key in _KEYS} | {
        "given_median_m": first["median_translation_m"],
        "given_median_deg": first["median_rotation_deg"],
        "count": figures["count"],
        "accepted": figures["stages"]["gscpr"]["accepted"],
    }
    return row if timed else row | {"median_ms": None}


def given_queries(views: Sequence[View], kind: str, map_folder: Path) -> list[QueryImage]:
    """The views with poses of the error called `kind`, or with those of the views of the map most like them.

    A view's given pose does not depend on the others.
    """
    queries = [query_from_view(view) for view in views]
    if kind == RETRIEVAL:
        options = LocalizerOptions(initial=RETRIEVAL, stages=(), device="cpu")
        results = localize_queries(Localizer.load(map_folder, options), queries, quiet=True)
        poses = [result.localization.final.cam_from_world for result in results]
        return [replace(query, given_pose=pose) for query, pose in zip(queries, poses)]
    given = []
    for query, view in zip(queries, views):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{view.name} {kind}".encode()))
        given.append(replace(query, given_pose=moved(view.cam_from_world, *NOISE[kind], generator)))
    return given


def moved(truth: Tensor, centimetres: float, degrees: float, generator: torch.Generator) -> Tensor:
    """A pose [4, 4] whose centre is exactly so far from the true one's, its axes turned by so much."""
    shift, axis = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator, dtype=torch.float64))
    world_from_cam = se3.inverse(truth)
    world_from_cam[:3, 3] += shift * centimetres / 100
    turn = se3.so3_exp(axis * math.radians(degrees))
    return se3.from_rotation_translation(turn, torch.zeros(3, dtype=torch.float64)) @ se3.inverse(
        world_from_cam
    )


def map_version(folder: Path) -> str:
    """Changes with the map's Gaussians."""
    return f"{zlib.crc32(find_ply(folder).read_bytes()):08x}"


def in_other_light(view: View) -> View:
    """The view with its image's gain, gamma and white balance changed, depending on its name only."""

    def load() -> np.ndarray:
        drawn = np.random.default_rng(zlib.crc32(view.name.encode())).standard_normal(5)
        gains = np.exp(0.35 * drawn[0] + 0.12 * drawn[1:4])
        changed = gains * (view.load_image() / 255.0) ** np.exp(0.25 * drawn[4])
        return (255 * changed.clip(0, 1)).round().astype(np.uint8)

    return replace(view, load_image=load)


@torch.no_grad()
def psnr(folder: Path, views: Sequence[View], exposure: Exposure) -> float:
    """Mean over the views, in dB, of renderings at the true poses after the transform."""
    gaussians = load_gaussians(folder)
    network = load_exposure(folder / FILE_NAME) if exposure == "act" else None
    found = []
    for view in views:
        image = view.load_image()
        photo = to_rgb(image)
        shown = render(gaussians, view.camera, view.cam_from_world)
        rgb = shown.rgb
        if network is not None:
            rgb = network.of_photo(image).apply(rgb)
        elif exposure == "affine":
            rgb = fit_affine(rgb, photo, shown.alpha).apply(rgb)
        found.append(-10 * (rgb.clamp(0, 1) - photo).square().mean().log10().item())
    return fmean(found)


def publish_refinement(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write both tables between the marks of `pose_refinement` and `exposure`."""
    texts = {}
    parts = ("pose_refinement", "poses", pose_table), ("exposure", "exposure", exposure_table)
    for mark, part, write in parts:
        if found := [row for row in rows if row["part"] == part]:
            texts[mark] = f"{origin_line(found)}\n\n{write(found)}"
    return publish(texts, root)


def pose_table(rows: Sequence[Row]) -> str:
    """A row for each error of the given poses and each variant."""
    kinds, variants = (*NOISE, RETRIEVAL), list(VARIANTS)
    ordered = sorted(rows, key=lambda row: (kinds.index(row["given"]), variants.index(row["variant"])))
    header = ["given poses", "refinement", "images", "median error", "5 cm 5°", "2 cm 2°", "1 cm 1°",
              "accepted", "ms"]  # fmt: skip
    return table(header, map(_line, ordered))


def _line(row: Row) -> list[str]:
    given = f"{row['given']} ({100 * row['given_median_m']:.1f} cm, {row['given_median_deg']:.1f}°)"
    recalls = [percent(row["recall"][key]) for key in ("5cm_5deg", "2cm_2deg", "1cm_1deg")]
    error = error_text(row["median_translation_m"], row["median_rotation_deg"])
    accepted = percent(row["accepted"] / row["count"], 0)
    return [given, row["variant"], str(row["count"]), error, *recalls, accepted, number(row["median_ms"])]


def exposure_table(rows: Sequence[Row]) -> str:
    """A row for each light, map and transform."""
    lines = [
        [row["light"], row["map"], row["variant"], number(row["psnr"], 1),
         error_text(row["median_translation_m"], row["median_rotation_deg"]),
         percent(row["recall"]["5cm_5deg"]), percent(row["recall"]["1cm_1deg"])]
        for row in rows
    ]  # fmt: skip
    return table(["images", "map", "transform", "PSNR, dB", "median error", "5 cm 5°", "1 cm 1°"], lines)
