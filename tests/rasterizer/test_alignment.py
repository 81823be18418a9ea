"""The native normal equations against the readable ones, and those against finite differences."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gsplatloc.localization.alignment.residuals import (
    GainBias,
    NormalEquations,
    ResidualBlock,
    reference_equations,
)
from gsplatloc.utils import se3
from gsplatloc_kernels.alignment import AlignmentBlock, normal_equations

KINDS = ("photometric", "inverse_depth", "features")
INTRINSICS = (70.0, 75.0, 41.0, 29.0)
SIZE = (60, 80)
COUNT = 1501  # more than a chunk, and no multiple of any lane count
EXPOSURE = GainBias(1.1, 0.05)
SIGMA = 0.7
POSE = se3.se3_exp(torch.tensor([0.02, -0.03, 0.05, 0.02, 0.01, -0.03], dtype=torch.float64))


def make_block(kind: Any, dtype: torch.dtype = torch.float64, slopes: bool = False) -> ResidualBlock:
    """Random samples, some of which leave the view, against a random image with unknown depths."""
    generator = torch.Generator().manual_seed(KINDS.index(kind))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    depth = 1 + 2 * torch.rand(COUNT, generator=generator, dtype=torch.float64)
    pixels = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64) * torch.tensor([SIZE[1], SIZE[0]])
    x = (pixels[:, 0] - INTRINSICS[2]) / INTRINSICS[0] * depth
    y = (pixels[:, 1] - INTRINSICS[3]) / INTRINSICS[1] * depth
    channels = (32,) if kind == "features" else ()
    image, reference = normal(*SIZE, *channels), normal(COUNT, *channels)
    if kind == "inverse_depth":
        image, reference = (image.abs() - 0.05).clamp(min=0), torch.zeros(0, dtype=torch.float64)
    return ResidualBlock(
        kind,
        torch.stack([x, y, depth]).to(dtype),
        reference.to(dtype),
        image.to(dtype),
        INTRINSICS,
        normal(2, COUNT).to(dtype) if slopes else None,
    )


def native(block: ResidualBlock, **options: Any) -> NormalEquations:
    fields = (block.kind, block.points, block.reference, block.image, block.intrinsics, block.gradients)
    residuals = torch.empty_like(block.points[0])
    exposure = (EXPOSURE.gain, EXPOSURE.bias)
    sums = normal_equations(AlignmentBlock(*fields), POSE, SIGMA, exposure, residuals, **options)
    return NormalEquations(sums.hessian, sums.gradient, sums.cost, sums.seen, residuals)


def assert_same(found: NormalEquations, expected: NormalEquations, tolerance: float) -> None:
    assert found.seen == expected.seen
    assert found.cost == pytest.approx(expected.cost, rel=tolerance)
    for a, b in ((found.hessian, expected.hessian), (found.gradient, expected.gradient)):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * b.abs().max().item())


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("kind", KINDS)
def test_native_sums_are_the_readable_ones(kind: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSPLAT_ISA", isa)
    block = make_block(kind)
    try:
        found = native(block)
    except ValueError as error:
        pytest.skip(str(error))
    assert_same(found, reference_equations(block, POSE, SIGMA, EXPOSURE), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_enough(kind: str) -> None:
    block = make_block(kind, torch.float32)
    exact = make_block(kind)
    assert_same(native(block), reference_equations(exact, POSE, SIGMA, EXPOSURE), 1e-4)


def test_slopes_of_the_reference_are_averaged_in() -> None:
    block = make_block("photometric", slopes=True)
    assert_same(native(block), reference_equations(block, POSE, SIGMA, EXPOSURE), 1e-12)
    plain = native(replace(block, gradients=None))
    assert not torch.allclose(native(block).hessian, plain.hessian, rtol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_cost(kind: str) -> None:
    """Finite differences of the cost, by steps too small to take a sample across a pixel's border."""
    block, step = make_block(kind), 1e-8
    gradient = reference_equations(block, POSE, SIGMA, EXPOSURE).gradient
    expected = torch.zeros_like(gradient)
    for i in range(8 if kind == "photometric" else 6):
        costs = []
        for sign in (step, -step):
            xi = torch.zeros(8, dtype=torch.float64)
            xi[i] = sign
            exposure = GainBias(EXPOSURE.gain + xi[6].item(), EXPOSURE.bias + xi[7].item())
            costs.append(reference_equations(block, se3.se3_exp(xi[:6]) @ POSE, SIGMA, exposure).cost)
        expected[i] = (costs[0] - costs[1]) / (2 * step)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5 * gradient.abs().max().item())


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_a_bit(kind: str) -> None:
    block = make_block(kind)
    many = replace(
        block,
        points=block.points.repeat(1, 24).contiguous(),
        reference=block.reference.repeat(24, *[1] * (block.reference.ndim - 1)).contiguous(),
    )
    one, three = native(many, threads=1), native(many, threads=3)
    assert torch.equal(one.hessian, three.hessian)
    assert torch.equal(one.gradient, three.gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_residuals_are_missing_where_a_sample_is_not_seen(kind: str) -> None:
    block = make_block(kind)
    found, expected = native(block).residuals, reference_equations(block, POSE, SIGMA, EXPOSURE).residuals
    assert 0 < int(found.isnan().sum()) < COUNT
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_no_samples_sum_to_nothing() -> None:
    block = make_block("photometric")
    none = replace(block, points=block.points[:, :0].contiguous(), reference=block.reference[:0])
    found = native(none)
    assert found.cost == 0
    assert not found.hessian.any()


def test_samples_behind_the_camera_and_nan_are_out_of_view() -> None:
    block = make_block("photometric")
    points = block.points.clone()
    points[2, :5] = -1
    points[0, 5:9] = torch.nan
    found = native(replace(block, points=points))
    assert bool(found.residuals[:9].isnan().all())
    assert bool(found.hessian.isfinite().all())


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "colour"},
        {"points": torch.zeros(2, 7, dtype=torch.float64)},
        {"image": torch.zeros(60, dtype=torch.float64)},
        {"image": torch.zeros(60, 80)},
        {"image": torch.zeros(80, 60, dtype=torch.float64).T},
        {"reference": torch.zeros(3, dtype=torch.float64)},
        {"slopes": torch.zeros(2, 3, dtype=torch.float64)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    block = make_block("photometric")
    with pytest.raises((ValueError, TypeError), match="expected"):
        native(replace(block, **change))


def test_descriptors_come_in_whole_steps() -> None:
    block = make_block("features")
    odd = replace(
        block, image=block.image[..., :20].contiguous(), reference=block.reference[:, :20].contiguous()
    )
    with pytest.raises(ValueError, match="multiple of 16"):
        native(odd)


@pytest.mark.parametrize("sigma", [0.0, float("nan")])
def test_an_impossible_noise_is_refused(sigma: float) -> None:
    block = make_block("photometric")
    fields = (block.kind, block.points, block.reference, block.image, block.intrinsics)
    with pytest.raises(ValueError, match="sigma"):
        normal_equations(AlignmentBlock(*fields), POSE, sigma)


@pytest.mark.parametrize("pose", [None, 1.0, torch.eye(3, dtype=torch.float64)])
def test_what_is_no_pose_is_refused(pose: Any) -> None:
    block = make_block("photometric")
    fields = (block.kind, block.points, block.reference, block.image, block.intrinsics)
    with pytest.raises((TypeError, ValueError), match="expected a pose"):
        normal_equations(AlignmentBlock(*fields), pose, 1.0)
