#!/usr/bin/env python3
"""How well a finished map reproduces views of its scene: PSNR, SSIM and, where it was measured, depth.

python -m benchmarks.map_quality --map OUT [--views test]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.mapping.evaluation import ImageQuality, evaluate_views, quality_line
from gsplatloc.mapping.train import split_holdout
from gsplatloc.scene import read_scene
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json

ROOT = Path(__file__).resolve().parents[1]

ViewSet = Literal["holdout", "train", "test"]


@dataclass(frozen=True)
class MapQualityArguments:
    """Which map, looked at from where."""

    map: Path  # folder that train.py wrote
    views: ViewSet = "holdout"  # of training: those held out, those trained on; or the scene's test views
    iteration: int | None = None  # of the map; unset = the latest
    scale: float = 1.0  # of the views' size
    json: Path | None = None  # file for the figures


def chosen_views(scene: Scene, config: MapConfig, views: ViewSet) -> Sequence[View]:
    """The views asked for; which ones were held out is in the map's settings."""
    if views == "test":
        found: Sequence[View] = scene.test
    else:
        train, holdout = split_holdout(scene.train, config.training.get("schedule", {}).get("holdout", 0))
        found = holdout if views == "holdout" else train
    if not found:
        raise GSplatLocError(f"expected {views} views of {scene.root}, found none: choose others by --views")
    return found


def measure(arguments: MapQualityArguments) -> ImageQuality:
    """The figures of one map."""
    if not 0 < arguments.scale <= 1:
        raise GSplatLocError(f"expected a --scale above 0 and at most 1, found {arguments.scale}")
    config = read_config(arguments.map)
    views = chosen_views(read_scene(config.source_path, config.scene), config, arguments.views)
    options = RenderOptions(
        background=(1.0, 1.0, 1.0) if config.scene.white_background else (0.0, 0.0, 0.0),
        antialiased=config.training.get("rendering", {}).get("antialiased", False),
    )
    gaussians = load_gaussians(arguments.map, arguments.iteration)
    return evaluate_views(gaussians, views, options, arguments.scale)


def main() -> None:
    arguments = tyro.cli(MapQualityArguments, description=__doc__)
    quality = measure(arguments)
    print(quality_line(quality))
    if arguments.json is not None:
        write_json(arguments.json, quality.figures())


if __name__ == "__main__":
    run_script(main)
