"""Fusing depth into a surface."""

from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera
from gsplatloc.tracking.frames import RgbdFrame, prepare
from gsplatloc.tracking.options import RgbdFrameOptions, SurfaceOptions
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils.errors import GSplatLocError
from tests.tracking.conftest import CAMERA, FRAMES, Clip, look


def wall(depth: float, noise: float = 0.0, seed: int = 0) -> RgbdFrame:
    camera = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
    z = depth + noise * np.random.default_rng(seed).standard_normal((48, 64))
    options = RgbdFrameOptions(side=64, levels=1, smooth_px=0)
    return prepare("wall", np.full((48, 64, 3), 100, np.uint8), z.astype(np.float32), camera, options)


def test_points_lie_on_the_surface(clip: Clip) -> None:
    surface = SurfaceMap()
    surface.add(clip.frames[3], clip.truth.cam_from_world[3])
    planes = torch.stack(
        [surface.means[:, 2] - 2.5, surface.means[:, 1] - 0.9, -surface.means[:, 0] - 1.1], 1
    )
    assert planes.abs().min(1).values.quantile(0.95) < 0.001  # the corner itself is rounded by smoothing


def test_what_is_seen_again_makes_no_new_points() -> None:
    surface, pose = SurfaceMap(), torch.eye(4, dtype=torch.float64)
    surface.add(wall(2.0), pose)
    count = len(surface)
    surface.add(wall(2.0), pose)
    assert len(surface) == count == 64 * 48 // 4


def test_what_is_new_makes_new_points() -> None:
    surface, pose = SurfaceMap(), torch.eye(4, dtype=torch.float64)
    surface.add(wall(2.0), pose)
    surface.add(wall(1.0), pose)  # in front of the first, not the same
    assert len(surface) == 2 * 64 * 48 // 4


def test_fusing_averages_the_noise_away() -> None:
    surface, pose = SurfaceMap(), torch.eye(4, dtype=torch.float64)
    surface.add(wall(2.0, noise=0.01), pose)
    before = (surface.means[:, 2] - 2).std()
    for seed in range(1, 16):
        surface.add(wall(2.0, noise=0.01, seed=seed), pose)
    assert (surface.means[:, 2] - 2).std() < 0.4 * before


def test_a_full_map_takes_no_more_points() -> None:
    surface, pose = SurfaceMap(SurfaceOptions(max_points=10)), torch.eye(4, dtype=torch.float64)
    surface.add(wall(2.0), pose)
    count = len(surface)
    surface.add(wall(1.0), pose)
    assert len(surface) == count


def test_gaussians_are_opaque_and_as_large_as_their_spacing() -> None:
    surface = SurfaceMap(SurfaceOptions(scale=1.0))
    surface.add(wall(2.0), torch.eye(4, dtype=torch.float64))
    gaussians = surface.gaussians()
    spacing = 2 * 2.0 / 60.0  # two pixels at two metres
    assert gaussians.scales.median().item() < 1.3 * spacing
    assert gaussians.scales.median().item() > 0.9 * spacing
    assert gaussians.opacities.min() > 0.99


@pytest.mark.parametrize("options", [{"cell_px": 0}, {"scale": 0.0}])
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(GSplatLocError, match=next(iter(options))):
        SurfaceOptions(**options)


def test_colours_are_the_images() -> None:
    image, depth = look(torch.eye(4, dtype=torch.float64))
    surface = SurfaceMap(SurfaceOptions(cell_px=1))
    surface.add(prepare("a", image, depth, CAMERA, FRAMES), torch.eye(4, dtype=torch.float64))
    shown = surface.rgb.mean() * 255
    assert abs(shown.item() - image.mean()) < 3
