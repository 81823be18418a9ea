"""Colours within [0, 1] that render as those of a splat with colours above 1."""

from dataclasses import replace

import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.mapping.clamped_colours import with_clamped_colours
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00

CAMERA = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)


def _wall(colours: torch.Tensor) -> Gaussians:
    """Half transparent Gaussians of `colours` [N, 3] side by side, 2 units in front of the camera."""
    count = len(colours)
    across = torch.linspace(-1, 1, count)
    return Gaussians(
        means=torch.stack([across, torch.zeros(count), torch.full((count,), 2.0)], 1),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        log_scales=torch.full((count, 3), -1.5),
        opacity_logits=torch.zeros(count),
        sh=((colours - 0.5) / Y_00)[:, None],
        features=torch.zeros(count, 0),
    )


def test_neighbours_take_up_what_clamping_loses() -> None:
    colours = torch.full((21, 3), 0.5)
    colours[::2] = 1.3
    wall = _wall(colours)
    clamped = replace(wall, sh=(colours.clamp(0, 1)[:, None] - 0.5) / Y_00)
    view = PosedCamera(CAMERA, torch.eye(4, dtype=torch.float64))

    def error(gaussians: Gaussians) -> float:
        shown = [render(one, CAMERA, view.cam_from_world, RenderOptions()).rgb for one in (gaussians, wall)]
        return (shown[0] - shown[1]).square().mean().item()

    fitted = with_clamped_colours(wall, clamped, [view], quiet=True)

    stored = fitted.sh * Y_00 + 0.5
    assert stored.min() >= -1e-6 and stored.max() <= 1 + 1e-6
    assert error(fitted) < 0.1 * error(clamped)
