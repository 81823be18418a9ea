"""Gradients of the native rasterizer: by finite differences on its own float64 code, and the reference's."""

from collections.abc import Callable

import pytest
import torch

from gsplatloc.gaussian_renderer.options import RenderOptions
from gsplatloc.gaussian_renderer.reference import covariances
from tests.rasterizer.support import (
    CAMERA,
    Inputs,
    available_isas,
    gradients,
    make_inputs,
    render_native,
    render_reference,
    weighted_sum,
    with_options,
)

FULL_SIZE = (CAMERA.height, CAMERA.width)
EIGHTH = (9, 11)


def assert_matches_reference(
    inputs: Inputs, options: RenderOptions, relative: float = 1e-9, dtype: torch.dtype = torch.float64
) -> None:
    """Gradients of the native rasterizer in `dtype` against the reference's in double precision."""
    found = gradients(render_native, {name: tensor.to(dtype) for name, tensor in inputs.items()}, options)
    expected = gradients(render_reference, inputs, options)
    for name in inputs:
        scale = expected[name].abs().max().clamp_min(1e-3)
        assert ((found[name] - expected[name]).abs().max() / scale).item() < relative, name


def directional_difference(render: Callable, inputs: Inputs, name: str, options: RenderOptions) -> float:
    """|analytic - numeric| / |numeric| of the loss along a random direction of one input."""
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(inputs[name].shape, generator=generator, dtype=torch.float64)
    if name == "cam_from_world":
        direction[3] = 0

    def loss(step: float) -> float:
        moved = inputs | {name: inputs[name] + step * direction}
        return weighted_sum(render(moved, options)).item()

    step = 1e-7
    numeric = (loss(step) - loss(-step)) / (2 * step)
    analytic = (gradients(render, inputs, options)[name] * direction).sum().item()
    return abs(analytic - numeric) / max(abs(numeric), 1e-3)


@pytest.mark.parametrize(
    "name",
    ["means", "quaternions", "scales", "opacities", "sh", "features", "screen_offsets", "cam_from_world"],
)
@pytest.mark.parametrize("size", [FULL_SIZE, EIGHTH])
def test_finite_differences(name: str, size: tuple[int, int]) -> None:
    # A step across the 1/255 threshold would be a jump: few Gaussians, tiny steps, fixed seed.
    options = with_options(feature_size=size, features_move_geometry=True, background=(0.3, 0.1, 0.8))
    inputs = make_inputs(12, 5, seed=2)
    assert directional_difference(render_native, inputs, name, options) < 2e-5


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(4))
def test_finite_differences_of_each_pose_entry(row: int, column: int) -> None:
    inputs = make_inputs(10, seed=2)
    step = torch.zeros(4, 4, dtype=torch.float64)
    step[row, column] = 1e-7

    def loss(pose: torch.Tensor) -> float:
        return weighted_sum(render_native(inputs | {"cam_from_world": pose})).item()

    pose = inputs["cam_from_world"]
    numeric = (loss(pose + step) - loss(pose - step)) / 2e-7
    analytic = gradients(render_native, inputs)["cam_from_world"][row, column].item()
    assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("size", [None, FULL_SIZE, EIGHTH])
@pytest.mark.parametrize("antialiased", [False, True])
def test_reference_gradients(moves: bool, size: tuple[int, int] | None, antialiased: bool) -> None:
    options = with_options(
        feature_size=size, features_move_geometry=moves, antialiased=antialiased, background=(0.3, 0.1, 0.8)
    )
    assert_matches_reference(make_inputs(100, 7), options)


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float32, 2e-4), (torch.float64, 1e-9)])
def test_pixels_that_finish_at_different_splats(
    isa: str, moves: bool, dtype: torch.dtype, relative: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 splats over the same cells, most of them behind the one that finishes a pixel: no pass may blend
    those, whichever batch or group of splats they are in."""
    monkeypatch.setenv("GSPLAT_ISA", isa)
    inputs = make_inputs(300, seed=5)
    inputs["means"][:, :2] *= 0.1
    inputs["opacities"] = inputs["opacities"] * 0.2
    inputs["opacities"][::7] = 1.0
    options = with_options(feature_size=FULL_SIZE, features_move_geometry=moves)
    result = render_native(inputs, options)
    finished = result.alpha > 0.99
    assert int(finished.sum()) > 20 and bool((result.alpha < 0.5).any())
    assert_matches_reference(inputs, options, relative, dtype)


@pytest.mark.parametrize("channels", [1, 3, 64, 100])
def test_feature_gradients_of_any_channel_count(channels: int) -> None:
    options = with_options(feature_size=EIGHTH, features_move_geometry=True)
    assert_matches_reference(make_inputs(40, channels), options)


def test_colors_and_covariances_instead_of_sh_and_scales() -> None:
    inputs = make_inputs(60)
    inputs["covariances"] = covariances(inputs.pop("quaternions"), inputs.pop("scales"))
    inputs["colors"] = inputs.pop("sh")[:, 0] + 0.5
    assert_matches_reference(inputs, with_options(feature_size=EIGHTH, features_move_geometry=True))


@pytest.mark.parametrize("degree", range(4))
def test_every_sh_degree(degree: int) -> None:
    assert_matches_reference(make_inputs(50), with_options(sh_degree=degree))


def test_negative_colors_are_clamped_without_gradient() -> None:
    inputs = make_inputs(50)
    inputs["sh"][:, 0] -= 2.5
    found = gradients(render_native, inputs)
    assert found["sh"].abs().sum() < gradients(render_native, make_inputs(50))["sh"].abs().sum()
    assert_matches_reference(inputs, with_options())


def test_gaussians_beyond_the_frustum_margin() -> None:
    """Large Gaussians centred outside the image: their Jacobian is clamped and passes no gradient."""
    inputs = make_inputs(60)
    inputs["means"][:30, 0] += 2.5
    inputs["means"][30:, 1] -= 2.5
    inputs["scales"] = inputs["scales"] * 8
    assert render_native(inputs).radii.gt(0).any()
    assert_matches_reference(inputs, with_options())


def test_gaussians_at_the_near_plane() -> None:
    inputs = make_inputs(60)
    inputs["means"][:, 2] -= 1.8
    inputs["scales"] = inputs["scales"] * 0.2
    assert_matches_reference(inputs, with_options(near=0.2), relative=1e-8)


def test_one_gaussian() -> None:
    inputs = make_inputs(1)
    inputs["means"] = torch.tensor([[0.1, 0.3, 2.0]], dtype=torch.float64)
    assert_matches_reference(inputs, with_options(feature_size=EIGHTH, features_move_geometry=True))


def test_no_gaussians_have_zero_pose_gradient() -> None:
    found = gradients(render_native, make_inputs(0), with_options(feature_size=EIGHTH))
    assert found["cam_from_world"].abs().max() == 0
    assert found["means"].shape == (0, 3)


@pytest.mark.parametrize("opacity", [0.0, 0.003, 0.005, 0.99, 0.999, 1.0])
def test_opacity_at_both_ends(opacity: float) -> None:
    inputs = make_inputs(60)
    inputs["opacities"] = torch.full_like(inputs["opacities"], opacity)
    assert_matches_reference(inputs, with_options(feature_size=EIGHTH, features_move_geometry=True))


def test_a_fully_clamped_alpha_has_no_geometric_gradient() -> None:
    inputs = make_inputs(1)
    inputs["means"] = torch.tensor([[0.1, 0.3, 2.0]], dtype=torch.float64)
    inputs["scales"] = torch.full((1, 3), 1e3, dtype=torch.float64)
    inputs["opacities"] = torch.ones(1, dtype=torch.float64)
    found = gradients(render_native, inputs)
    assert found["opacities"].abs().max() == 0
    assert found["screen_offsets"].abs().max() == 0
    assert found["sh"].abs().max() > 0


def test_features_alone_leave_geometry_alone() -> None:
    inputs = {name: tensor.requires_grad_() for name, tensor in make_inputs(40).items()}
    result = render_native(inputs, with_options(feature_size=EIGHTH))
    assert result.features is not None
    result.features.square().sum().backward()
    assert inputs["features"].grad is not None and inputs["features"].grad.abs().sum() > 0
    for name in ("means", "opacities", "scales", "cam_from_world"):
        grad = inputs[name].grad
        assert grad is None or grad.abs().max() == 0, name


def test_float32_gradients_are_close() -> None:
    inputs = make_inputs(100, 16)
    options = with_options(feature_size=EIGHTH, features_move_geometry=True)
    found = gradients(render_native, {name: tensor.float() for name, tensor in inputs.items()}, options)
    expected = gradients(render_native, inputs, options)
    for name in inputs:
        scale = expected[name].abs().max()
        assert ((found[name] - expected[name]).abs().max() / scale).item() < 2e-4, name


def test_backward_twice_through_a_retained_graph() -> None:
    leaf = make_inputs(30)["means"].requires_grad_()
    loss = weighted_sum(render_native(make_inputs(30) | {"means": leaf}))
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(first, second)
