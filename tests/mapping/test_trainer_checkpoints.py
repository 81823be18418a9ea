"""Checkpoints of the training loop: what resumes bit by bit, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gsplatloc.mapping.options import (
    DescriptorOptions,
    OutputOptions,
)
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.utils.errors import GSplatLocError
from tests.mapping.training import make_trainer, options


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("kind", ["adc", "mcmc", "none"])
def test_a_resumed_run_ends_bit_by_bit_as_an_uninterrupted_one(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, kind: Any, backend: str
) -> None:
    settings = options(16)
    settings = replace(
        settings,
        densification=replace(settings.densification, densification=kind),
        rendering=replace(settings.rendering, exposure=True, backend=backend),
        losses=replace(settings.losses, lambda_depth=0.1),
        output=replace(settings.output, checkpoint_iterations=(9,)),
    )
    whole = make_trainer(tiny_scene, tmp_path, settings, extractor)
    whole.run()
    resumed = make_trainer(tiny_scene, tmp_path, settings, extractor)
    resumed.resume(load_checkpoint(tmp_path / "checkpoint_9.safetensors"))
    assert resumed.iteration == 9
    resumed.run()
    assert len(whole.gaussians) == {"adc": 80, "mcmc": 48, "none": 40}[kind]
    for name, tensor in whole.gaussians.parameters().items():
        assert torch.equal(tensor, resumed.gaussians.parameters()[name]), name


def test_a_checkpoint_of_other_views_is_refused(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = options(2)
    checkpoint = make_trainer(tiny_scene, tmp_path, settings, extractor).checkpoint()
    fewer = replace(tiny_scene, train=tiny_scene.train[:4])
    with pytest.raises(GSplatLocError, match="other views"):
        make_trainer(fewer, tmp_path, settings, extractor).resume(checkpoint)


@pytest.mark.parametrize(
    "settings, found",
    [
        (DescriptorOptions(descriptors="aggregated"), "other descriptors"),
        (DescriptorOptions(extractor="disk"), "other extractor"),
    ],
    ids=("descriptors", "extractor"),
)
def test_a_checkpoint_of_other_options_is_refused(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, settings: DescriptorOptions, found: str
) -> None:
    checkpoint = make_trainer(tiny_scene, tmp_path, options(2), extractor).checkpoint()
    trainer = make_trainer(tiny_scene, tmp_path, options(2, descriptors=settings), extractor)
    with pytest.raises(GSplatLocError, match=found):
        trainer.resume(checkpoint)


def test_older_checkpoints_are_all_of_xfeat_and_in_world_coordinates(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    trainer = make_trainer(tiny_scene, tmp_path, options(2), extractor)
    trainer.iteration = 1
    checkpoint = trainer.checkpoint()
    facts = {name: value for name, value in checkpoint.facts.items() if name not in ("extractor", "frame")}
    resumed = make_trainer(tiny_scene, tmp_path, options(2), extractor)
    resumed.resume(replace(checkpoint, facts=facts))
    assert resumed.iteration == 1 and torch.equal(resumed.gaussians.means, trainer.gaussians.means)


def test_a_checkpoint_in_other_coordinates_is_refused(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    trainer = make_trainer(tiny_scene, tmp_path, options(2), extractor)
    checkpoint = trainer.checkpoint()
    with pytest.raises(GSplatLocError, match="other frame"):
        trainer.resume(replace(checkpoint, facts={**checkpoint.facts, "frame": [0.0, 0.0, 0.0, 0.1]}))


DAMAGES = {
    "missing": lambda tensor: None,
    "empty": lambda tensor: tensor.flatten()[:0],
    "flat": lambda tensor: tensor.flatten(),
    "longer": lambda tensor: torch.cat(
        [tensor.reshape(-1, *tensor.shape[1:]), tensor.reshape(-1, *tensor.shape[1:])]
    ),
    "deeper": lambda tensor: tensor[None],
    "bytes": lambda tensor: torch.zeros(tensor.shape, dtype=torch.uint8),
    "not finite": lambda tensor: torch.full(tensor.shape, torch.nan),
    "huge": lambda tensor: torch.full(tensor.shape, 2**40, dtype=torch.int64),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_a_users_error_or_does_no_harm(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, damage: str
) -> None:
    settings = options(12, output=OutputOptions(test_iterations=(), save_iterations=(), quiet=True))
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
    trainer.iteration = 9
    whole = trainer.checkpoint()
    for name, tensor in whole.tensors.items():
        changed = DAMAGES[damage](tensor)
        tensors = {key: value for key, value in whole.tensors.items() if key != name}
        tensors |= {} if changed is None else {name: changed}
        resumed = make_trainer(tiny_scene, tmp_path, settings, extractor)
        try:
            resumed.resume(replace(whole, tensors=tensors))
        except GSplatLocError as error:
            assert "pass another" in str(error) and len(str(error)) < 500, name
        else:
            resumed.run()
