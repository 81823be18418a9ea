"""config.json and cameras.json of a map."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.map_config import (
    MapConfig,
    config_path,
    longest_side,
    read_cameras,
    read_config,
    write_cameras,
    write_config,
)
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    config = MapConfig("/scenes/kitchen", SceneOptions(eval=True, resolution=4), "cpu", "xfeat-1", 2048)
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


def test_a_folder_without_a_map_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"run gsplatloc map or train"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"source_path": 5},
        {"scene": {"resolution": "half"}},
        {"scene": {"zoom": 2}},
        {"new": 1},
    ],
)
def test_settings_of_another_make_are_a_users_error(tmp_path: Path, change: dict) -> None:
    write_config(tmp_path, MapConfig("/scenes/kitchen"))
    values = json.loads(config_path(tmp_path).read_text())
    write_json(config_path(tmp_path), values | change)
    with pytest.raises(GSplatLocError, match="train this map anew"):
        read_config(tmp_path)


def test_longest_side_is_that_of_the_largest_image(tmp_path: Path) -> None:
    assert longest_side(tmp_path) is None
    write_json(tmp_path / "cameras.json", [{"width": 480, "height": 640}, {"width": 320, "height": 240}])
    assert longest_side(tmp_path) == 640


def test_cameras_of_another_tool_are_a_users_error(tmp_path: Path) -> None:
    write_json(tmp_path / "cameras.json", [{"pose": 1}])
    with pytest.raises(GSplatLocError, match="expected cameras"):
        longest_side(tmp_path)
    with pytest.raises(GSplatLocError, match="expected cameras"):
        read_cameras(tmp_path)


def test_cameras_come_back_as_they_were_written(tmp_path: Path) -> None:
    camera = Camera(64, 48, 50.0, 51.0, 31.0, 25.0)
    pose = se3.se3_exp(torch.tensor([0.3, -0.2, 0.5, 0.4, -0.3, 0.2], dtype=torch.float64))
    write_cameras(
        tmp_path, [View("a", camera, pose, tmp_path / "a.png", lambda: np.zeros((48, 64, 3), np.uint8))]
    )
    (found,) = read_cameras(tmp_path)
    assert (found.name, found.camera) == ("a", camera)
    torch.testing.assert_close(found.cam_from_world, pose)


def test_without_cameras_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="cameras"):
        read_cameras(tmp_path)
