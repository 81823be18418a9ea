"""Resolutions, splits and the detection of a layout."""

from pathlib import Path

import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.readers.views import split_test_views
from gsplatloc.utils.errors import GSplatLocError


@pytest.mark.parametrize(
    ("resolution", "size", "expected"),
    [
        (None, (640, 480), (640, 480)),
        (-1, (640, 480), (640, 480)),
        (None, (3200, 2400), (1600, 1200)),
        (1, (3200, 2400), (3200, 2400)),
        (2, (641, 480), (320, 240)),
        (4, (640, 480), (160, 120)),
        (8, (640, 480), (80, 60)),
        (0, (640, 480), (80, 60)),
        (0, (1200, 900), (148, 112)),
        (320, (640, 480), (320, 240)),
        (1280, (640, 480), (1280, 960)),
    ],
)
def test_size_at_a_resolution(
    resolution: int | None, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert SceneOptions(resolution=resolution).size_of(*size) == expected


def test_a_negative_resolution_is_refused() -> None:
    with pytest.raises(GSplatLocError, match="-3"):
        SceneOptions(resolution=-3).size_of(640, 480)
    with pytest.raises(GSplatLocError, match="at most 8 times the 640 pixels of an image, found 64000"):
        SceneOptions(resolution=64_000).size_of(640, 480)


def test_the_feature_maps_size_needs_32_pixels() -> None:
    with pytest.raises(GSplatLocError, match="32"):
        SceneOptions(resolution=0).size_of(640, 20)


def views(count: int) -> list[View]:
    camera = Camera(2, 2, 1, 1, 1, 1)
    names = [f"{index:03d}.png" for index in reversed(range(count))]
    pose = torch.eye(4, dtype=torch.float64)
    return [View(name, camera, pose, Path(name), lambda: pytest.fail("decoded")) for name in names]


def test_every_eighth_name_is_held_out_with_eval() -> None:
    train, test = split_test_views(views(17), SceneOptions(eval=True))
    assert [view.name for view in test] == ["000.png", "008.png", "016.png"]
    assert len(train) == 14


def test_nothing_is_held_out_without_eval() -> None:
    train, test = split_test_views(views(9), SceneOptions())
    assert [view.name for view in train] == [f"{index:03d}.png" for index in range(9)]
    assert test == []


def test_an_unknown_layout_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError) as caught:
        read_scene(tmp_path)
    for known in ("train/", "sparse/0", "transforms.json"):
        assert known in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="nowhere"):
        read_scene(tmp_path / "nowhere")
