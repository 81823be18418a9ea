"""Preparing RGB-D images: levels, holes and edges."""

import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera
from gsplatloc.tracking.frames import prepare
from gsplatloc.tracking.options import RgbdFrameOptions
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
GREY = np.full((48, 64, 3), 90, np.uint8)


def slanted() -> np.ndarray:
    """Depth of a plane: its inverse is linear in the pixel."""
    rows, columns = np.mgrid[0:48, 0:64]
    return (1 / (0.3 + 0.004 * columns + 0.002 * rows)).astype(np.float32)


def test_levels_halve_the_camera() -> None:
    frame = prepare("a", GREY, slanted(), CAMERA, RgbdFrameOptions(side=64, levels=3))
    assert [(level.camera.width, level.camera.height) for level in frame.levels] == [
        (64, 48),
        (32, 24),
        (16, 12),
    ]
    assert frame.levels[2].camera.fx == 15


def test_images_larger_than_asked_for_are_halved_first() -> None:
    frame = prepare("a", GREY, slanted(), CAMERA, RgbdFrameOptions(side=32, levels=2))
    assert frame.rgb.shape == (24, 32, 3) and frame.depth.shape == (24, 32)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_plane_stays_a_plane_on_every_level(level: int) -> None:
    found = prepare("a", GREY, slanted(), CAMERA, RgbdFrameOptions(side=64, levels=3)).levels[level]
    scale = 2**level
    rows, columns = np.mgrid[0 : 48 // scale, 0 : 64 // scale] * scale + (scale - 1) / 2
    expected = torch.from_numpy(0.3 + 0.004 * columns + 0.002 * rows).float()
    inner = slice(4 // scale + 1, -(4 // scale + 1))
    torch.testing.assert_close(
        found.inverse_depth[inner, inner], expected[inner, inner], atol=1e-5, rtol=1e-4
    )


def test_an_edge_is_unknown_and_depths_are_never_mixed() -> None:
    depth = np.where(np.arange(64) < 30, 1.0, 3.0)[None].repeat(48, 0).astype(np.float32)
    frame = prepare("a", GREY, depth, CAMERA, RgbdFrameOptions(side=64, levels=3, smooth_px=0))
    for level in frame.levels:
        known = level.inverse_depth[level.inverse_depth > 0]
        assert ((known - 1).abs() < 1e-5).logical_or((known - 1 / 3).abs() < 1e-5).all()
    assert (frame.inverse_depth[:, 29:31] == 0).all()


def test_holes_stay_holes() -> None:
    depth = slanted()
    depth[10:20, 10:20] = 0
    frame = prepare("a", GREY, depth, CAMERA, RgbdFrameOptions(side=64, levels=1))
    assert (frame.depth[10:20, 10:20] == 0).all()


def test_what_is_too_far_is_unknown() -> None:
    frame = prepare("a", GREY, np.full((48, 64), 9.0, np.float32), CAMERA, RgbdFrameOptions(max_depth=8))
    assert not frame.depth.any()


def test_odd_sizes_lose_their_last_pixels_and_keep_their_camera() -> None:
    camera = Camera(67, 51, 60.0, 60.0, 32.0, 24.0)
    depth, image = np.full((51, 67), 2.0, np.float32), np.zeros((51, 67, 3), np.uint8)
    frame = prepare("a", image, depth, camera, RgbdFrameOptions(side=67, levels=3))
    assert (frame.camera.width, frame.camera.height, frame.camera.cx) == (64, 48, 32)


@pytest.mark.parametrize("name", ["side", "levels"])
def test_settings_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(GSplatLocError, match=name):
        RgbdFrameOptions(**{name: 0})


def test_an_image_too_small_for_its_levels_is_a_users_error() -> None:
    with pytest.raises(GSplatLocError, match="at least 128 pixels"):
        prepare("a", GREY, slanted(), CAMERA, RgbdFrameOptions(side=64, levels=8))
