"""Which views a finished map is rendered at, and how well it reproduces them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy.measure import QualityArguments, chosen_views, measure
from gsplatloc.scene.cameras import Camera, Scene, View
from gsplatloc.scene.map_config import MapConfig
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(8, 6, 8.0, 8.0, 4.0, 3.0)


def no_image() -> np.ndarray:
    return np.zeros((6, 8, 3), np.uint8)


def view(name: str) -> View:
    return View(name, CAMERA, torch.eye(4, dtype=torch.float64), Path(name), no_image)


SCENE = Scene("room", Path("room"), [view(str(i)) for i in range(4)], [view("t")], None)


def test_held_out_views_are_those_of_the_maps_settings() -> None:
    config = MapConfig("room", training={"schedule": {"holdout": 2}})
    assert [v.name for v in chosen_views(SCENE, config, "holdout")] == ["1", "3"]
    assert [v.name for v in chosen_views(SCENE, config, "train")] == ["0", "2"]
    assert [v.name for v in chosen_views(SCENE, config, "test")] == ["t"]


def test_a_map_that_held_none_out_is_a_users_error() -> None:
    with pytest.raises(GSplatLocError, match="--views"):
        chosen_views(SCENE, MapConfig("room"), "holdout")


def test_a_rough_map_reproduces_its_views_roughly(room_map: Path) -> None:
    quality = measure(QualityArguments(room_map, views="test"))
    assert quality.views == 6 and 15 < quality.psnr < 40
    assert quality.depth is not None and quality.depth.error_m < 0.3
