"""The direct cost: its gradient, its minimum, and what it does with exposure and with leaving the photo."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.alignment.warp_objective import Alignment, Scales, feature_table
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

CAMERA = Camera(160, 120, 130.0, 128.0, 77.0, 61.0)
CELL = 8


def _image(pixels: Tensor) -> Tensor:
    """A smooth grey pattern at pixels [..., 2]."""
    x, y = pixels[..., 0], pixels[..., 1]
    return 0.5 + 0.2 * torch.sin(x / 9) * torch.cos(y / 7) + 0.2 * torch.sin((x + 2 * y) / 17)


def _descriptors(pixels: Tensor) -> Tensor:
    """Smooth unit descriptors [..., 16] at pixels [..., 2]."""
    generator = torch.Generator().manual_seed(2)
    waves = torch.randn(2, 16, generator=generator, dtype=torch.float64) / 25
    return F.normalize(torch.sin(pixels @ waves + torch.arange(16)), dim=-1)


def _grid(width: int, height: int, step: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([x, y], -1).double() + 0.5) * step


def _alignment(xi: Tensor, features: bool = True, gain: float = 1.0, bias: float = 0.0) -> Alignment:
    """The cost of a rendering taken at the identity, photographed at exp(xi): so xi is the answer."""
    generator = torch.Generator().manual_seed(5)
    spread = torch.rand(400, 2, generator=generator, dtype=torch.float64)
    pixels = spread * torch.tensor([130.0, 90.0]) + 15
    depth = 1.5 + torch.rand(400, generator=generator, dtype=torch.float64)
    points = CAMERA.unproject(pixels, depth)
    moved = se3.se3_exp(xi)
    seen = CAMERA.project(points @ moved[:3, :3].T + moved[:3, 3])
    table = None
    if features:
        dense = _descriptors(_grid(20, 15, CELL)).permute(2, 0, 1)
        table = feature_table(dense, CAMERA, points.T.contiguous()[:, :100], _descriptors(seen[:100]))
    return Alignment(
        camera=CAMERA,
        image=_image(_grid(160, 120, 1)),
        points=points.T.contiguous(),
        grey=(_image(seen) - bias) / gain,
        table=table,
        scales=Scales(feature_weight=0.5, effective=50.0, photometric=0.05, feature=0.4),
        anchor=torch.zeros(6, dtype=torch.float64),
        information=torch.zeros(6, 6, dtype=torch.float64),
    )


TRUTH = torch.tensor([0.02, -0.01, 0.015, 0.008, -0.006, 0.01], dtype=torch.float64)


@pytest.mark.parametrize("features", (False, True))
@pytest.mark.parametrize("case", range(4))
def test_gradient_matches_finite_differences(case: int, features: bool) -> None:
    information = torch.diag(torch.tensor([1e4, 2e4, 3e4, 4e4, 5e4, 6e4], dtype=torch.float64))
    alignment = replace(_alignment(TRUTH, features), information=information, anchor=0.3 * TRUTH)
    start = torch.randn(8, generator=torch.Generator().manual_seed(case), dtype=torch.float64) * 0.005
    _, gradient = alignment.evaluate(start)

    def perturbed(delta: Tensor) -> float:
        # exp(delta) exp(xi): a left perturbation, and a plain one of the exposure
        pose = se3.se3_log(se3.se3_exp(delta[:6]) @ se3.se3_exp(start[:6]))
        return alignment.evaluate(torch.cat([pose, start[6:] + delta[6:]]))[0]

    # The prior is quadratic in xi, not in the perturbation: to first order in |xi|, 0.5 %, they agree.
    for axis in range(8):
        delta = torch.zeros(8, dtype=torch.float64)
        delta[axis] = 1e-7
        numeric = (perturbed(delta) - perturbed(-delta)) / 2e-7
        assert gradient[axis].item() == pytest.approx(numeric, abs=2e-2 * gradient.abs().max().item())


@pytest.mark.parametrize("features", (False, True))
def test_gradient_without_a_prior_is_exact(features: bool) -> None:
    alignment = _alignment(TRUTH, features)
    start = torch.randn(8, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 0.005
    _, gradient = alignment.evaluate(start)
    for axis in range(8):
        delta = torch.zeros(8, dtype=torch.float64)
        delta[axis] = 1e-7
        values = []
        for sign in (1, -1):
            pose = se3.se3_log(se3.se3_exp(sign * delta[:6]) @ se3.se3_exp(start[:6]))
            values.append(alignment.evaluate(torch.cat([pose, start[6:] + sign * delta[6:]]))[0])
        numeric = (values[0] - values[1]) / 2e-7
        assert gradient[axis].item() == pytest.approx(numeric, abs=1e-4 * gradient.abs().max().item())


def test_the_cost_is_lowest_at_the_truth() -> None:
    alignment = _alignment(TRUTH)
    truth = F.pad(TRUTH, (0, 2))
    lowest, _ = alignment.evaluate(truth)
    for axis in range(6):
        for step in (-3e-3, 3e-3):
            beside = truth.clone()
            beside[axis] += step
            assert alignment.evaluate(beside)[0] > lowest


def test_gain_and_bias_explain_another_exposure() -> None:
    alignment = _alignment(TRUTH, features=False, gain=1.2, bias=-0.05)
    explained = torch.cat([TRUTH, torch.tensor([0.2, -0.05], dtype=torch.float64)])
    assert alignment.evaluate(explained)[0] < 0.01 * alignment.evaluate(F.pad(TRUTH, (0, 2)))[0]


def test_leaving_the_photo_does_not_pay() -> None:
    alignment = _alignment(TRUTH)
    outside = torch.tensor([0, 0, 0, 0, 1.2, 0, 0, 0], dtype=torch.float64)
    cost, gradient = alignment.evaluate(outside)
    assert cost > alignment.evaluate(torch.zeros(8, dtype=torch.float64))[0]
    assert bool(gradient.isfinite().all())


def test_points_behind_the_camera_are_harmless() -> None:
    cost, gradient = _alignment(TRUTH).evaluate(
        torch.tensor([0, 0, -5.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    )
    assert cost == pytest.approx(50.0 * 2 * 1.5)  # every sample an outlier, in both terms
    assert bool((gradient == 0).all())


def test_the_prior_costs_half_the_squared_mahalanobis_distance() -> None:
    alignment = _alignment(TRUTH)
    information = torch.diag(torch.arange(1, 7, dtype=torch.float64))
    anchored = replace(alignment, information=information, anchor=torch.full((6,), 0.1).double())
    zero = torch.zeros(8, dtype=torch.float64)
    assert anchored.evaluate(zero)[0] - alignment.evaluate(zero)[0] == pytest.approx(0.5 * 0.01 * 21)


def test_measured_noise_is_that_of_the_residuals() -> None:
    alignment = _alignment(TRUTH)
    noise = 0.03 * torch.randn(400, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    noisy = replace(alignment, grey=alignment.grey + noise).with_measured_noise(F.pad(TRUTH, (0, 2)))
    assert noisy.scales.photometric == pytest.approx(0.03, rel=0.15)
