"""A map whose exposure is a network: trained with it, resumed with it, saved beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gsplatloc.localization.alignment.exposure import FILE_NAME, load_exposure
from gsplatloc.mapping.options import (
    DescriptorOptions,
    InitializationOptions,
    MappingOptions,
    OutputOptions,
    RenderingOptions,
    ScheduleOptions,
)
from gsplatloc.mapping.train import train
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.scene.map_config import MapConfig
from gsplatloc.utils.errors import GSplatLocError

CONFIG = MapConfig("/somewhere")
OPTIONS = MappingOptions(
    schedule=ScheduleOptions(iterations=8, sh_degree=0),
    initialization=InitializationOptions(init_max_points=40),
    densification=DensificationOptions(densification="none"),
    rendering=RenderingOptions(backend="reference", exposure_model="act"),
    descriptors=DescriptorOptions(descriptors="none"),
    output=OutputOptions(test_iterations=(), save_iterations=(), checkpoint_iterations=(4,), quiet=True),
)


def test_the_network_is_saved_with_the_map_and_goes_with_it(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    report = train(tiny_scene, tmp_path, OPTIONS, CONFIG, extractor)
    network = load_exposure(tmp_path / FILE_NAME)
    assert FILE_NAME in report.map_bytes
    assert network.seen == 8
    transform = network(torch.zeros_like(network.mean_histogram))
    assert not torch.equal(transform.matrix, torch.eye(3))
    without = replace(OPTIONS, rendering=RenderingOptions(backend="reference"))
    train(tiny_scene, tmp_path, without, CONFIG, extractor)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_resumed_run_has_the_same_network(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    train(tiny_scene, tmp_path / "whole", OPTIONS, CONFIG, extractor)
    start = str(tmp_path / "whole" / "checkpoint_4.safetensors")
    again = replace(OPTIONS, output=replace(OPTIONS.output, start_checkpoint=start))
    train(tiny_scene, tmp_path / "resumed", again, CONFIG, extractor)
    whole, resumed = (load_exposure(tmp_path / run / FILE_NAME).state_dict() for run in ("whole", "resumed"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_checkpoint_of_the_other_model_is_refused(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    train(tiny_scene, tmp_path, OPTIONS, CONFIG, extractor)
    start = tmp_path / "checkpoint_4.safetensors"
    assert load_checkpoint(start).facts["exposure"] == "act"
    other = replace(OPTIONS, rendering=RenderingOptions(backend="reference", exposure=True))
    other = replace(other, output=replace(OPTIONS.output, start_checkpoint=str(start)))
    with pytest.raises(GSplatLocError, match="other exposure"):
        train(tiny_scene, tmp_path, other, CONFIG, extractor)
