"""How well a finished map reproduces views of its scene: PSNR, SSIM and, where it was measured, depth."""

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
from gsplatloc.utils.errors import GSplatLocError

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
