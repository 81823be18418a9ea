"""Training that ends once held-out views gain no more."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gsplatloc.mapping.options import (
    MappingOptions,
    StoppingOptions,
)
from gsplatloc.mapping.trainer import Watcher
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.checkpoint import load_checkpoint
from tests.mapping.training import lines, make_trainer, options


def stopping_early() -> MappingOptions:
    """Settings whose second evaluation, after iteration 20, ends the run: nothing gains 100 dB."""
    stopping = StoppingOptions(
        early_stop=1, early_stop_gain=100, early_stop_interval=10, early_stop_cooldown=6
    )
    settings = options(40, stopping=stopping)
    return replace(settings, densification=replace(settings.densification, opacity_reset_interval=0))


def test_a_run_ends_early_once_held_out_views_gain_no_more(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    trainer = make_trainer(tiny_scene, tmp_path, stopping_early(), extractor)
    assert trainer.run()
    written = lines(tmp_path)
    kinds = [(line["kind"], line["iteration"]) for line in written]
    assert trainer.iteration == 26 and kinds[-2] == ("early_stop", 20)
    assert written[-2]["last_iteration"] == 26 and kinds[-1] == ("holdout", 26)


def test_a_run_that_holds_out_nothing_does_not_end_early(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    alone = replace(tiny_scene, train=tiny_scene.train[:1])  # of one view none is held out
    trainer = make_trainer(alone, tmp_path, stopping_early(), extractor)
    trainer.run()
    assert trainer.iteration == 40


@pytest.mark.parametrize(
    "at", [8, 14, 23]
)  # before the first evaluation, before the second, in the cool-down
def test_a_run_that_ends_early_can_be_resumed_bit_by_bit(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, at: int
) -> None:
    settings = stopping_early()
    settings = replace(settings, output=replace(settings.output, checkpoint_iterations=(at,)))
    whole = make_trainer(tiny_scene, tmp_path, settings, extractor)
    whole.run()
    resumed = make_trainer(tiny_scene, tmp_path, settings, extractor)
    resumed.resume(load_checkpoint(tmp_path / f"checkpoint_{at}.safetensors"))
    resumed.run()
    assert resumed.iteration == whole.iteration == 26
    for name, tensor in whole.gaussians.parameters().items():
        assert torch.equal(tensor, resumed.gaussians.parameters()[name]), name


def test_the_cool_down_adds_no_gaussians(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = stopping_early()
    unlimited = replace(settings.densification, densify_grad_threshold=0.0, max_gaussians=10_000)
    settings = replace(settings, densification=unlimited)
    counts: dict[int, int] = {}
    watcher: Watcher = lambda gaussians, iteration, _: counts.update({iteration: len(gaussians)})  # noqa: E731
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor, watcher)
    trainer.run()
    assert len(trainer.gaussians) == counts[20] > counts[10]
