"""Colours for splat formats that hold none outside of [0, 1] and no view dependence, chosen by rendering."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00
from gsplatloc.utils.console import progress

_WIDTH = 640  # pixels of the renderings at most
_STEPS = 150
_RATES = (0.01, 0.0005)  # learning rate of colours in [0, 1], at the first step and at the last


def with_clamped_colours(
    gaussians: Gaussians, start: Gaussians, views: Sequence[PosedCamera], quiet: bool = False
) -> Gaussians:
    """`start` of degree 0 with colours in [0, 1] that render at the views as `gaussians` do.

    Where colours above 1 are blended with others, clamping them makes a rendering too dark. The squared
    difference of the renderings is minimised, so that the Gaussians around them take up the rest.
    """
    colours = (start.sh[:, :1] * Y_00 + 0.5).clamp(0, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([colours], eps=1e-12)
    generator = torch.Generator().manual_seed(0)
    for step in progress(range(_STEPS), desc="colours", quiet=quiet):
        view = views[int(torch.randint(len(views), (1,), generator=generator))]
        camera = shrunk(view.camera, _WIDTH)
        with torch.no_grad():
            wanted = render(gaussians, camera, view.cam_from_world, RenderOptions()).rgb
        now = replace(start, sh=(colours - 0.5) / Y_00)
        shown = render(now, camera, view.cam_from_world, RenderOptions()).rgb
        optimizer.param_groups[0]["lr"] = _RATES[0] + (_RATES[1] - _RATES[0]) * step / _STEPS
        optimizer.zero_grad()
        (shown - wanted).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            colours.clamp_(0, 1)
    return replace(start, sh=((colours - 0.5) / Y_00).detach())
