#!/usr/bin/env python3
"""Photos in another light than the map: what a colour transform of the rendering is worth.

python -m benchmarks.exposure --plain OUT --act OUT_ACT [--queries 30]

Both maps are of one scene, with the same seed, the second with `--exposure_model act`. Photos are the scene's
test images, as they are and with their colours changed (`Light`: gain, gamma and white balance, drawn for
each photo). How near the rendering at the true pose comes to the photo is said in dB; how much poses gain, by
GS-CPR from 20 cm and 10 degrees off.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.machine import describe
from benchmarks.pose_refinement import (
    ABLATED_ON,
    RefinementArguments,
    Variant,
    noisy_queries,
    refined,
    row,
    views_to_refine,
)
from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.exposure import FILE_NAME, fit_affine, load_exposure, to_rgb
from gsplatloc.localization.refine.gscpr import Exposure, GscprOptions
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import load_gaussians
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.io import write_json

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Light:
    """How photos are changed: factors drawn log-normally, a photo's own in every run."""

    gain: float = 0.35  # standard deviation of the logarithm, of all colours together
    gamma: float = 0.25  # likewise of the exponent
    balance: float = 0.12  # likewise of each colour on its own

    def of(self, image: np.ndarray, name: str) -> np.ndarray:
        """The photo [H, W, 3] uint8 called `name`, in its other light."""
        drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(5)
        gains = np.exp(self.gain * drawn[0] + self.balance * drawn[1:4])
        changed = gains * (image / 255.0) ** np.exp(self.gamma * drawn[4])
        return (255 * changed.clip(0, 1)).round().astype(np.uint8)

    def on(self, view: View) -> View:
        return replace(view, load_image=lambda: self.of(view.load_image(), view.name))


@dataclass(frozen=True)
class ExposureArguments:
    """What to measure, on what."""

    plain: Path
    """folder of a map without a network"""
    act: Path
    """folder of the map with one: train.py --exposure_model act"""
    scene: Path | None = None
    """folder of the scene whose test images are refined; unset = the one that the maps were made from"""
    queries: int = 0
    """test images, evenly over all of them; 0 = all"""
    output: Path = ROOT / "benchmarks" / "results" / "exposure.json"
    """file that the figures are written to"""


def measure(arguments: ExposureArguments) -> Iterator[dict[str, Any]]:
    """One row of figures per light, map and transform, as they come."""
    views = views_to_refine(
        RefinementArguments(arguments.plain, scene=arguments.scene, queries=arguments.queries)
    )
    kinds: dict[str, tuple[Path, tuple[Exposure, ...]]] = {
        "plain": (arguments.plain, ("none", "affine")),
        "act": (arguments.act, ("none", "affine", "act")),
    }
    for light in (None, Light()):
        shown = views if light is None else [light.on(view) for view in views]
        for name, (folder, exposures) in kinds.items():
            for exposure in exposures:
                yield {
                    "light": None if light is None else asdict(light),
                    "map": name,
                    "psnr": psnr(folder, shown, exposure),
                    **poses(folder, shown, exposure),
                }


def poses(folder: Path, views: Sequence[View], exposure: Exposure) -> dict[str, Any]:
    """Figures of poses refined with one transform."""
    variant = Variant(exposure, GscprOptions(exposure=exposure))
    figures = row(ABLATED_ON, variant, refined(folder, variant, noisy_queries(views, ABLATED_ON)))
    return {key: value for key, value in figures.items() if key != "median_ms"}


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
        found.append(_decibels(rgb, photo))
    return fmean(found)


def _decibels(rgb: Tensor, photo: Tensor) -> float:
    return -10 * (rgb.clamp(0, 1) - photo).square().mean().log10().item()


HEADER = (
    "| photos | map | transform | PSNR, dB | median error | 5 cm 5° | 1 cm 1° |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All rows as a table, in Markdown."""
    return "\n".join([*HEADER, *(line(figures) for figures in rows)])


def line(figures: dict[str, Any]) -> str:
    """A row of the table, in Markdown."""
    photos, recall = "as they are" if figures["light"] is None else "other light", figures["recall"]
    return (
        f"| {photos} | {figures['map']} | {figures['variant']} | {figures['psnr']:.1f}"
        f" | {100 * figures['median_translation_m']:.3f} cm / {figures['median_rotation_deg']:.3f}°"
        f" | {100 * recall['5cm_5deg']:.1f} % | {100 * recall['1cm_1deg']:.1f} % |"
    )


def main() -> None:
    arguments = tyro.cli(ExposureArguments, description=__doc__)
    machine = describe(torch.device("cpu"))
    log("\n".join(HEADER))
    rows = []
    for figures in measure(arguments):
        rows.append(figures)
        log(line(figures))
        write_json(arguments.output, {"machine": machine, "rows": rows})


if __name__ == "__main__":
    run_script(main)
