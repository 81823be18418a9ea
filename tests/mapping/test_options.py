"""What single options do to a training iteration."""

import pytest
import torch

from gsplatloc.gaussian_renderer import render
from gsplatloc.mapping.losses import photometric_loss, ssim
from gsplatloc.mapping.optimizer import position_rate
from gsplatloc.mapping.options import OptimizerOptions, RenderingOptions
from gsplatloc.mapping.train import placeholder_gaussians
from gsplatloc.scene.cameras import Camera

CAMERA = Camera(16, 12, 10.0, 10.0, 8.0, 6.0)


@pytest.mark.parametrize("white", [False, True])
def test_what_the_map_does_not_cover_has_the_background_asked_for(white: bool) -> None:
    options = RenderingOptions(backend="reference").render_options(white)
    empty = placeholder_gaussians(torch.device("cpu"))
    rgb = render(empty, CAMERA, torch.eye(4), options).rgb
    assert torch.equal(rgb, torch.full((3, 12, 16), float(white)))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_lambda_dssim_divides_the_loss_between_l1_and_structure(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 3, 24, 32, generator=generator)
    expected = (1 - weight) * (first - second).abs().mean() + weight * (1 - ssim(first, second))
    assert photometric_loss(first, second, weight).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_position_rate_is_final_from_position_lr_max_steps_on() -> None:
    options = OptimizerOptions(position_lr_max_steps=10)
    rates = [position_rate(options, iteration) for iteration in (9, 10, 20)]
    assert rates[0] > rates[1] == rates[2] == pytest.approx(options.position_lr_final)
