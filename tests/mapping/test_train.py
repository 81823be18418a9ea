"""Training from a scene to the folder of a map, on a scene of six small images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsplatloc.mapping.options import (
    DescriptorOptions,
    MappingOptions,
    OutputOptions,
)
from gsplatloc.mapping.train import placeholder_gaussians, split_holdout, train
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.utils.errors import GSplatLocError
from tests.mapping.training import CPU, lines, options

CONFIG = MapConfig("/somewhere")


def whole_run(scene: Scene, output: Path, settings: MappingOptions, extractor: Any) -> Any:
    return train(scene, output, settings, CONFIG, extractor)


@pytest.mark.parametrize("kind", ["distilled", "aggregated", "none"])
def test_a_run_writes_the_whole_map(tmp_path: Path, tiny_scene: Scene, extractor: Any, kind: Any) -> None:
    settings = options(4, descriptors=DescriptorOptions(descriptors=kind))
    report = whole_run(tiny_scene, tmp_path, settings, extractor)
    assert report.completed and report.quality is not None and report.quality.views == 2
    channels = load_gaussians(tmp_path).features.shape[1]
    assert channels == (0 if kind == "none" else 4)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "cameras.json", "point_cloud", "landmarks.safetensors", "training.jsonl"} <= names
    config = read_config(tmp_path)
    assert config.extractor == "grid-1" and config.source_path == "/somewhere"
    assert len(json.loads((tmp_path / "cameras.json").read_text())) == 6


def test_speedup_trains_few_channels_and_a_decoder(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = options(4, descriptors=DescriptorOptions(speedup=True))
    whole_run(tiny_scene, tmp_path, settings, extractor)
    loaded = load_gaussians(tmp_path)
    assert loaded.features.shape[1] == 16 and loaded.feature_decoder is not None
    assert loaded.feature_decoder.shape == (4, 16)


def test_test_views_are_never_touched(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    def forbidden() -> np.ndarray:
        raise AssertionError("a test image was read")

    test = [replace(view, name=f"test/{view.name}", load_image=forbidden) for view in tiny_scene.train]
    assert whole_run(replace(tiny_scene, test=test), tmp_path, options(2), extractor).completed


def test_no_iterations_give_the_initial_map(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    report = whole_run(tiny_scene, tmp_path, options(0), extractor)
    assert report.iteration == 0 and len(load_gaussians(tmp_path, 0)) == report.gaussians > 0


def test_a_resumed_run_continues_the_log(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    output = OutputOptions(
        test_iterations=(2, 4), save_iterations=(2,), checkpoint_iterations=(2,), quiet=True
    )
    whole_run(tiny_scene, tmp_path, options(4, output=output), extractor)
    resumed = replace(output, start_checkpoint=str(tmp_path / "checkpoint_2.safetensors"))
    whole_run(tiny_scene, tmp_path, options(4, output=resumed), extractor)
    assert [line["iteration"] for line in lines(tmp_path)] == [2, 4]


def test_a_scene_without_training_views_is_a_users_error(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    with pytest.raises(GSplatLocError, match="training views"):
        whole_run(replace(tiny_scene, train=[]), tmp_path, options(1), extractor)


def test_every_view_is_trained_or_held_out(tiny_scene: Scene) -> None:
    trained, held_out = split_holdout(tiny_scene.train, 3)
    assert [view.name for view in held_out] == ["001", "004"]
    assert {view.name for view in trained} | {"001", "004"} == {view.name for view in tiny_scene.train}
    assert split_holdout(tiny_scene.train, 0) == (tiny_scene.train, [])
    assert split_holdout(tiny_scene.train[:1], 2)[0]  # a single view is trained


def test_the_placeholder_is_empty() -> None:
    assert len(placeholder_gaussians(CPU)) == 0
