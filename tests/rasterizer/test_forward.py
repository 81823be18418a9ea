"""The native forward pass against the reference, and what can be said of it without one."""

import math
from dataclasses import replace

import pytest
import torch

from gsplatloc.gaussian_renderer.options import RenderResult
from gsplatloc.scene.cameras import Camera
from tests.rasterizer.support import (
    CAMERA,
    available_isas,
    make_inputs,
    render_native,
    render_reference,
    with_options,
)

_IMAGES = ("rgb", "depth", "alpha", "features")


def assert_close(found: RenderResult, expected: RenderResult, relative: float) -> None:
    """Equal but for rounding. In float32 a contribution may fall on the other side of 1/255, rarely."""
    rare = 1e-3 if found.rgb.dtype == torch.float32 else 0.0
    for name in _IMAGES:
        image, oracle = getattr(found, name), getattr(expected, name)
        if oracle is None:
            assert image is None
            continue
        difference = (image - oracle).abs() / oracle.abs().max().clamp_min(1)
        assert (difference > relative).double().mean().item() <= rare, name
        assert difference.max().item() < 0.02, name
    assert torch.equal(found.radii, expected.radii) or (found.radii - expected.radii).abs().max() <= 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype,relative", [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_matches_reference(seed: int, dtype: torch.dtype, relative: float) -> None:
    options = with_options(feature_size=(CAMERA.height, CAMERA.width), background=(0.1, 0.6, 0.9))
    inputs = make_inputs(150, seed=seed)
    found = render_native({name: tensor.to(dtype) for name, tensor in inputs.items()}, options)
    assert found.rgb.dtype == dtype
    assert_close(found, render_reference(inputs, options), relative)


@pytest.mark.parametrize("channels", [1, 3, 64, 100])
@pytest.mark.parametrize("size", [(5, 6), (37, 45), (80, 30)])
def test_features_of_any_size_and_channel_count(channels: int, size: tuple[int, int]) -> None:
    options = with_options(feature_size=size)
    inputs = make_inputs(80, channels)
    found = render_native(inputs, options)
    assert found.features is not None
    assert found.features.shape == (channels, *size)
    assert_close(found, render_reference(inputs, options), 1e-11)


@pytest.mark.parametrize("degree", range(4))
def test_every_sh_degree(degree: int) -> None:
    options = with_options(sh_degree=degree)
    inputs = make_inputs(60)
    assert_close(render_native(inputs, options), render_reference(inputs, options), 1e-11)


def test_antialiasing_compensates_opacity() -> None:
    inputs = make_inputs(60)
    options = with_options(antialiased=True, feature_size=(9, 11))
    found = render_native(inputs, options)
    assert_close(found, render_reference(inputs, options), 1e-11)
    assert found.alpha.sum() < render_native(inputs).alpha.sum()


def test_many_screens_of_large_opaque_gaussians_terminate_early_like_the_reference() -> None:
    inputs = make_inputs(400)
    inputs["opacities"] = inputs["opacities"] * 0 + 1.0
    inputs["scales"] = inputs["scales"] * 3
    options = with_options(feature_size=(37, 45))
    assert_close(render_native(inputs, options), render_reference(inputs, options), 1e-11)


def test_gaussians_over_many_rows_of_tiles_match_the_reference() -> None:
    """More rows of tiles than are found several splats at a time."""
    camera = CAMERA.resized(40, 300)
    inputs = make_inputs(60)
    inputs["scales"] = inputs["scales"] * 4
    options = with_options(feature_size=(300, 20))
    assert_close(render_native(inputs, options, camera), render_reference(inputs, options, camera), 1e-11)


def test_elongated_gaussians_match_in_float32() -> None:
    inputs = make_inputs(40)
    inputs["scales"][:, 0] *= 20
    inputs["scales"][:, 1:] *= 0.05
    found = render_native({name: tensor.float() for name, tensor in inputs.items()})
    assert_close(found, render_reference(inputs), 5e-4)


def one_gaussian(pixel: tuple[float, float], depth: float, camera: Camera) -> dict[str, torch.Tensor]:
    x = (pixel[0] - camera.cx) / camera.fx * depth
    y = (pixel[1] - camera.cy) / camera.fy * depth
    return {
        "means": torch.tensor([[x, y, depth]]),
        "quaternions": torch.tensor([[1.0, 0, 0, 0]]),
        "scales": torch.full((1, 3), 1e-4),
        "opacities": torch.tensor([0.8]),
        "colors": torch.tensor([[0.2, 0.5, 0.7]]),
        "features": torch.ones(1, 1),
        "cam_from_world": torch.eye(4),
    }


@pytest.mark.parametrize("column,row", [(0, 0), (17, 15), (16, 16), (44, 36)])
def test_a_splat_is_where_its_pixel_is(column: int, row: int) -> None:
    result = render_native(one_gaussian((column + 0.5, row + 0.5), 2.0, CAMERA))
    assert divmod(int(result.alpha.argmax()), CAMERA.width) == (row, column)
    assert result.alpha[row, column].item() == pytest.approx(0.8, rel=1e-5)
    assert result.depth[row, column].item() == pytest.approx(2.0, rel=1e-5)
    assert result.rgb[:, row, column].tolist() == pytest.approx([0.16, 0.4, 0.56], rel=1e-5)


def test_a_splat_is_where_its_feature_cell_is() -> None:
    camera = replace(CAMERA, width=48, height=40)
    # Cell (row 2, column 3) of a 1/8 map is centred at (8 * 3 + 4, 8 * 2 + 4).
    result = render_native(one_gaussian((28.0, 20.0), 2.0, camera), with_options(feature_size=(5, 6)), camera)
    assert result.features is not None
    assert divmod(int(result.features.argmax()), 6) == (2, 3)
    assert result.features.max().item() == pytest.approx(0.8, rel=1e-4)


def test_nearer_gaussians_hide_farther_ones_whatever_their_order() -> None:
    inputs = make_inputs(100)
    permutation = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    shuffled = {name: t if name == "cam_from_world" else t[permutation] for name, t in inputs.items()}
    assert torch.allclose(render_native(inputs).rgb, render_native(shuffled).rgb, atol=1e-12)


def test_alpha_is_clamped_at_99_percent() -> None:
    inputs = one_gaussian((20.5, 20.5), 2.0, CAMERA) | {"opacities": torch.ones(1)}
    assert render_native(inputs).alpha.max().item() == pytest.approx(0.99, rel=1e-6)


@pytest.mark.parametrize("opacity", [0.0, 1 / 256])
def test_faint_gaussians_are_skipped(opacity: float) -> None:
    inputs = one_gaussian((20.5, 20.5), 2.0, CAMERA) | {"opacities": torch.tensor([opacity])}
    result = render_native(inputs)
    assert result.radii.tolist() == [0]
    assert result.alpha.max().item() == 0


@pytest.mark.parametrize("depth,visible", [(-1.0, False), (0.0, False), (0.009, False), (0.011, True)])
def test_near_plane(depth: float, visible: bool) -> None:
    inputs = one_gaussian((20.5, 20.5), 1.0, CAMERA)
    inputs["means"] = inputs["means"] * depth
    assert bool(render_native(inputs).radii[0] > 0) == visible


def test_gaussians_outside_the_image_are_not_visible() -> None:
    inputs = one_gaussian((-30.0, 20.0), 2.0, CAMERA)
    assert render_native(inputs).radii.tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("antialiased", [False, True])
def test_gaussians_beside_the_image_change_nothing(dtype: torch.dtype, antialiased: bool) -> None:
    """Sorted by position, whole vectors of them are left out before their ellipses are known."""
    inputs = make_inputs(3000, seed=5, dtype=dtype)
    del inputs["screen_offsets"]
    inputs["means"] = (inputs["means"] - 1) * 6
    inputs["scales"][::7] *= 8
    order = inputs["means"][:, 0].argsort()
    pose = inputs.pop("cam_from_world")
    inputs = {name: tensor[order] for name, tensor in inputs.items()}
    options = with_options(feature_size=(5, 7), antialiased=antialiased)
    whole = render_native(inputs | {"cam_from_world": pose}, options)
    seen = whole.radii > 0
    assert 50 < int(seen.sum()) < 1000
    alone = render_native(
        {name: tensor[seen] for name, tensor in inputs.items()} | {"cam_from_world": pose}, options
    )
    assert torch.equal(alone.radii, whole.radii[seen])
    for name in ("rgb", "depth", "alpha"):
        assert torch.equal(getattr(alone, name), getattr(whole, name)), name
    scattered = {name: tensor[order.argsort()] for name, tensor in inputs.items()} | {"cam_from_world": pose}
    assert torch.equal(render_native(scattered, options).radii[order], whole.radii)


@pytest.mark.parametrize("count", [1, 15, 17, 1025])
@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_passes_that_cull_equal_those_that_do_not(
    count: int, isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With screen offsets, here of zero, no vector of Gaussians is left out early."""
    monkeypatch.setenv("GSPLAT_ISA", isa)
    inputs = make_inputs(count, seed=count, dtype=dtype)
    inputs["means"] = (inputs["means"] - 1) * 6  # beside and behind the camera, too
    inputs["opacities"][::5] = 0
    order = inputs["means"][:, 0].argsort()
    inputs = {name: t if name == "cam_from_world" else t[order] for name, t in inputs.items()}
    inputs["screen_offsets"] = torch.zeros(count, 2, dtype=dtype)
    options = with_options(feature_size=(5, 7))
    whole = render_native(inputs, options)
    del inputs["screen_offsets"]
    culled = render_native(inputs, options)
    for name in (*_IMAGES, "radii"):
        assert torch.equal(getattr(culled, name), getattr(whole, name)), name


def test_without_gradients_the_images_are_the_same() -> None:
    inputs, options = make_inputs(300, seed=2), with_options(feature_size=(5, 7))
    plain = render_native(inputs, options)
    inputs["means"].requires_grad_()
    differentiable = render_native(inputs, options)
    with torch.no_grad():
        inside = render_native(inputs, options)
    for name in ("rgb", "depth", "alpha", "features", "radii"):
        assert torch.equal(getattr(plain, name), getattr(differentiable, name)), name
        assert torch.equal(getattr(plain, name), getattr(inside, name)), name
    assert differentiable.rgb.requires_grad and not inside.rgb.requires_grad


def test_no_gaussians_give_the_background() -> None:
    inputs = make_inputs(0)
    options = with_options(background=(0.25, 0.5, 0.75), feature_size=(4, 5))
    result = render_native(inputs, options)
    assert torch.equal(result.rgb[:, 3, 4], torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    assert result.alpha.abs().max() == 0
    assert result.features is not None and result.features.shape == (3, 4, 5)
    assert result.features.abs().max() == 0


def test_images_smaller_than_a_tile() -> None:
    camera = Camera(1, 1, 20.0, 20.0, 0.5, 0.5)
    inputs = make_inputs(50)
    assert_close(render_native(inputs, camera=camera), render_reference(inputs, camera=camera), 1e-11)


def test_radii_bound_the_visible_ellipse() -> None:
    inputs = one_gaussian((20.5, 20.5), 2.0, CAMERA)
    inputs["scales"] = torch.full((1, 3), 0.1)
    result = render_native(inputs)
    sigma = math.sqrt((0.1 / 2 * CAMERA.fy) ** 2 + 0.3)
    assert abs(result.radii.item() - sigma * math.sqrt(2 * math.log(255 * 0.8))) < 1.2
