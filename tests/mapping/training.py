"""Training on a scene of six small images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import FrameLoader
from gsplatloc.mapping.initialization import gaussians_from_points, thinned
from gsplatloc.mapping.options import (
    InitializationOptions,
    MappingOptions,
    OutputOptions,
    RenderingOptions,
    ScheduleOptions,
)
from gsplatloc.mapping.train import split_holdout
from gsplatloc.mapping.trainer import Trainer, TrainingSet, Watcher
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.densification import DensificationOptions

CPU = torch.device("cpu")


def options(iterations: int = 12, **groups: Any) -> MappingOptions:
    """Everything happens early: densification, higher harmonics, figures."""
    base = MappingOptions(
        schedule=ScheduleOptions(iterations=iterations, sh_degree=1, sh_interval=3, holdout=3),
        initialization=InitializationOptions(init_max_points=60),
        rendering=RenderingOptions(backend="reference"),
        output=OutputOptions(test_iterations=(), save_iterations=(), quiet=True),
    )
    densification = DensificationOptions(
        densify_from_iter=2,
        densification_interval=4,
        opacity_reset_interval=7,
        densify_grad_threshold=1e-4,
        max_gaussians=80,
    )
    return replace(base, **({"densification": densification} | groups))


def make_trainer(
    scene: Scene, output: Path, settings: MappingOptions, extractor: Any, watcher: Watcher | None = None
) -> Trainer:
    held_in, held_out = split_holdout(scene.train, settings.schedule.holdout)
    points = thinned(scene.points, 40)  # type: ignore[arg-type]
    gaussians = gaussians_from_points(points, 1, torch.zeros(len(points), 4))
    cache = FeatureCache(output / "cache", extractor)
    loader = FrameLoader(settings.frames, cache, CPU)
    return Trainer(TrainingSet(held_in, held_out, extent=10.0), gaussians, loader, settings, output, watcher)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
