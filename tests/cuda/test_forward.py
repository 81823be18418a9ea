"""The forward kernels, on the host shim: against the PyTorch reference, the CPU backend, and themselves."""

import math
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

import gsplatloc_kernels as native
from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult
from gsplatloc.scene.cameras import Camera
from tests.cuda.support import LARGE_TILES, ORDERS, SMALL_TILES, on_shim, shim_renderer, single
from tests.rasterizer.support import (
    CAMERA,
    Inputs,
    make_inputs,
    render_native,
    render_reference,
    with_options,
)

IMAGES = ("rgb", "depth", "alpha", "features")
TILES = pytest.mark.parametrize("multiprocessors", [LARGE_TILES, SMALL_TILES], ids=["large", "small"])
SHARED_SIZE = with_options(feature_size=(CAMERA.height, CAMERA.width), background=(0.1, 0.6, 0.9))


def assert_close(found: RenderResult, expected: RenderResult, relative: float = 1e-4) -> None:
    """Equal but for rounding; a contribution may fall on the other side of 1/255, rarely."""
    for name in IMAGES:
        image, oracle = getattr(found, name), getattr(expected, name)
        if oracle is None:
            assert image is None
            continue
        assert torch.isfinite(image).all(), name
        difference = (image - oracle).abs() / oracle.abs().max().clamp_min(1)
        assert (difference > relative).double().mean().item() <= 1e-3, name
        assert difference.max().item() < 0.02, name
    assert found.radii.shape == expected.radii.shape
    assert torch.equal(found.radii > 0, expected.radii > 0)
    assert int((found.radii - expected.radii).abs().sum()) <= 1


def assert_same(found: RenderResult, expected: RenderResult) -> None:
    for name in (*IMAGES, "radii"):
        image, other = getattr(found, name), getattr(expected, name)
        assert (image is None and other is None) or torch.equal(image, other), name


def check(
    shim: ModuleType,
    inputs: Inputs,
    options: RenderOptions | None = None,
    camera: Camera = CAMERA,
    multiprocessors: int = LARGE_TILES,
    relative: float = 1e-4,
) -> RenderResult:
    """Render on the shim and compare with the reference, which gets the same numbers."""
    inputs = single(inputs)
    found = shim_renderer(shim, multiprocessors=multiprocessors)(inputs, options, camera)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    assert_close(found, render_reference(exact, options, camera), relative)
    return found


def cluster(count: int, opacity: float = 0.02, channels: int = 3) -> Inputs:
    """Small Gaussians behind each other, all of them in the first tile of a 16 x 16 image (`SQUARE`)."""
    inputs = make_inputs(count, channels)
    generator = torch.Generator().manual_seed(count)
    xy = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    z = 1 + torch.rand(count, 1, generator=generator, dtype=torch.float64)
    del inputs["screen_offsets"]
    return inputs | {
        "means": torch.cat([(0.2 + 0.3 * xy) * z, z], 1),
        "scales": torch.full((count, 3), 0.03, dtype=torch.float64),
        "opacities": torch.full((count,), opacity, dtype=torch.float64),
        "cam_from_world": torch.eye(4, dtype=torch.float64),
    }


SQUARE = Camera(16, 16, 20.0, 20.0, 0.0, 0.0)
SHARED_SQUARE = with_options(feature_size=(16, 16))


# --- against the reference and the CPU ---


@TILES
@pytest.mark.parametrize("seed", range(3))
def test_matches_the_reference(shim: ModuleType, seed: int, multiprocessors: int) -> None:
    check(shim, make_inputs(150, seed=seed), SHARED_SIZE, multiprocessors=multiprocessors)


@pytest.mark.parametrize("options", [with_options(), SHARED_SIZE, with_options(feature_size=(19, 30))])
def test_matches_the_cpu_backend(shim: ModuleType, options: RenderOptions) -> None:
    inputs = single(make_inputs(300, seed=5))
    assert_close(shim_renderer(shim)(inputs, options), render_native(inputs, options))


@TILES
@pytest.mark.parametrize("size", [(5, 6), (37, 45), (50, 30)])
@pytest.mark.parametrize("channels", [1, 3, 10, 12, 30, 32, 64, 100])
def test_features_of_any_size_and_channel_count(
    shim: ModuleType, channels: int, size: tuple[int, int], multiprocessors: int
) -> None:
    check(shim, make_inputs(60, channels), with_options(feature_size=size), multiprocessors=multiprocessors)


def test_tf32_products_err_by_their_rounding_only(shim: ModuleType) -> None:
    inputs = single(make_inputs(100, 24))
    settings = _settings(feature_precision="tf32")
    with on_shim(shim):
        found = native.rasterize(**inputs, settings=settings).features
    assert found is not None
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    expected = render_reference(exact, SHARED_SIZE).features
    magnitude = render_reference(exact | {"features": exact["features"].abs()}, SHARED_SIZE).features
    assert expected is not None and magnitude is not None
    # Both factors are rounded to 2^-11, weights to float32 before.
    assert ((found - expected).abs() <= (2 * 2**-11 + 1e-5) * magnitude + 1e-7).double().mean() > 0.999


@TILES
@pytest.mark.parametrize("width,height", [(1, 1), (8, 4), (7, 9), (17, 16), (33, 5), (16, 33)])
def test_images_of_any_size(shim: ModuleType, width: int, height: int, multiprocessors: int) -> None:
    camera = Camera(width, height, 20.0, 25.0, 0.4 * width, 0.6 * height)
    options = with_options(feature_size=(height, width))
    check(shim, make_inputs(50), options, camera, multiprocessors)


@pytest.mark.parametrize("degree", range(4))
def test_every_sh_degree(shim: ModuleType, degree: int) -> None:
    check(shim, make_inputs(60), with_options(sh_degree=degree))


@pytest.mark.parametrize("bases", [1, 4, 9])
def test_harmonics_stored_to_every_degree(shim: ModuleType, bases: int) -> None:
    inputs = make_inputs(60)
    check(shim, inputs | {"sh": inputs["sh"][:, :bases]})


def test_colors_and_covariances_as_inputs(shim: ModuleType) -> None:
    inputs = make_inputs(80)
    axes = torch.linalg.qr(torch.randn(80, 3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    full = axes * inputs["scales"][:, None] ** 2 @ axes.mT
    rows, columns = torch.triu_indices(3, 3)
    colors = {"colors": inputs["features"], "covariances": full[:, rows, columns]}
    given = {name: inputs[name] for name in inputs if name not in ("sh", "quaternions", "scales")}
    assert bool((colors["colors"] < 0).any()), "colours that are given are not clamped"
    check(shim, given | colors)


def test_antialiasing_compensates_opacity(shim: ModuleType) -> None:
    check(shim, make_inputs(60), with_options(antialiased=True, feature_size=(9, 11)))


def test_screen_offsets_are_optional(shim: ModuleType) -> None:
    inputs = make_inputs(60)
    del inputs["screen_offsets"]
    check(shim, inputs, SHARED_SIZE)


def test_elongated_gaussians(shim: ModuleType) -> None:
    inputs = make_inputs(40)
    inputs["scales"][:, 0] *= 20
    inputs["scales"][:, 1:] *= 0.05
    check(shim, inputs, relative=5e-4)


@pytest.mark.parametrize("distance", [0.0, 50.0, 300.0])
def test_splats_are_culled_alike_by_warps_of_every_size(shim: ModuleType, distance: float) -> None:
    """Colour alone is rendered by warps of 8 x 8 pixels, colour and features by warps of 8 x 4."""
    count, generator = 400, torch.Generator().manual_seed(0)
    inputs = make_inputs(count)
    # Needles along the diagonal, far from their centres: the exponent is a small difference of large terms.
    angle = torch.full((count,), math.pi / 8, dtype=torch.float64)
    zero = torch.zeros(count, dtype=torch.float64)
    across = torch.rand(count, generator=generator, dtype=torch.float64) - 0.5
    inputs |= {
        "means": torch.stack([across - distance, -across - distance, zero + 1], 1),
        "quaternions": torch.stack([angle.cos(), zero, zero, angle.sin()], 1),
        "scales": torch.tensor([[0.5 + distance, 1e-4, 1e-4]], dtype=torch.float64).repeat(count, 1),
        "opacities": torch.full((count,), 0.02, dtype=torch.float64),
        "cam_from_world": torch.eye(4, dtype=torch.float64),
    }
    camera = Camera(64, 64, 60.0, 60.0, 32.0, 32.0)
    alone = shim_renderer(shim)(single(inputs), None, camera)
    together = shim_renderer(shim)(single(inputs), with_options(feature_size=(64, 64)), camera)
    assert alone.alpha.max() > 0.1
    for name in ("rgb", "depth", "alpha"):
        assert torch.equal(getattr(alone, name), getattr(together, name)), name


# --- tiles and their lists ---


def test_no_gaussians_give_the_background(shim: ModuleType) -> None:
    options = with_options(background=(0.25, 0.5, 0.75), feature_size=(4, 5))
    result = shim_renderer(shim)(single(make_inputs(0)), options)
    assert torch.equal(result.rgb[:, 3, 4], torch.tensor([0.25, 0.5, 0.75]))
    assert result.features is not None
    assert max(image.abs().max().item() for image in (result.alpha, result.depth, result.features)) == 0


@TILES
def test_gaussians_that_are_all_behind_the_camera_give_the_background(
    shim: ModuleType, multiprocessors: int
) -> None:
    inputs = make_inputs(40)
    inputs["means"] = inputs["means"] * torch.tensor([1.0, 1.0, -1.0])
    assert check(shim, inputs, SHARED_SIZE, multiprocessors=multiprocessors).radii.sum() == 0


@TILES
def test_one_gaussian_leaves_the_other_tiles_empty(shim: ModuleType, multiprocessors: int) -> None:
    camera = Camera(64, 48, 60.0, 60.0, 10.0, 10.0)
    inputs = cluster(1, opacity=0.9)
    options = with_options(feature_size=(48, 64), background=(0.2, 0.3, 0.4))
    result = check(shim, inputs, options, camera, multiprocessors)
    assert result.features is not None
    assert result.alpha.max() > 0.5
    assert result.features[:, -16:].abs().max() == 0
    assert torch.equal(result.rgb[:, -1, -1], torch.tensor([0.2, 0.3, 0.4]))


@TILES
@pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 257])
def test_one_tile_holds_any_number_of_gaussians(shim: ModuleType, count: int, multiprocessors: int) -> None:
    check(shim, cluster(count), with_options(feature_size=(16, 16)), SQUARE, multiprocessors)


@pytest.mark.parametrize("opacity", [0.5, 0.97])  # not 1: two alphas of 99 % meet the limit exactly
def test_opaque_gaussians_finish_pixels_early(shim: ModuleType, opacity: float) -> None:
    inputs = cluster(257, opacity=opacity)
    inputs["scales"] *= 10
    result = check(shim, inputs, with_options(feature_size=(16, 16)), SQUARE)
    assert result.alpha.min() > 0.99


@TILES
def test_gaussians_that_cover_the_whole_image(shim: ModuleType, multiprocessors: int) -> None:
    camera = Camera(150, 141, 90.0, 80.0, 70.0, 75.0)  # 90 large or 342 small tiles, of many rows
    inputs = make_inputs(6)
    inputs["means"] = torch.tensor([0.1, 0.3, 2.2]) + 0.1 * inputs["means"]
    inputs["scales"] = 3 * torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).double() + 1
    check(shim, inputs, with_options(feature_size=(20, 31)), camera, multiprocessors)


def test_tiles_are_as_tight_as_on_the_cpu(shim: ModuleType) -> None:
    """An error of the limit tells the number of intersections. The CPU takes boxes for small splats."""
    inputs = single(make_inputs(300, seed=3))
    settings = _settings(max_intersections=1)
    with pytest.raises(MemoryError, match=r"touch \d+ tiles") as on_cpu:
        native.rasterize(**inputs, settings=settings)
    with on_shim(shim), pytest.raises(MemoryError, match=r"touch \d+ tiles") as on_gpu:
        native.rasterize(**inputs, settings=settings)
    counts = [int(re.findall(r"\d+", str(error.value))[0]) for error in (on_cpu, on_gpu)]
    assert 0.97 * counts[0] <= counts[1] <= counts[0]


def test_equal_depths_keep_the_order_of_the_gaussians(shim: ModuleType) -> None:
    inputs = cluster(40, opacity=0.5)
    inputs["means"][:, 2] = 1.0
    check(shim, inputs, with_options(feature_size=(16, 16)), SQUARE)


# --- visibility ---


@pytest.mark.parametrize("depth,visible", [(-1.0, False), (0.0, False), (0.499, False), (0.501, True)])
def test_near_plane(shim: ModuleType, depth: float, visible: bool) -> None:
    inputs = cluster(1, opacity=0.8)
    inputs["means"] = torch.tensor([[0.3, 0.4, 1.0]]).double() * depth
    result = shim_renderer(shim)(single(inputs), with_options(near=0.5), SQUARE)
    assert bool(result.radii[0] > 0) == visible
    assert bool(result.alpha.max() > 0) == visible


@pytest.mark.parametrize("opacity", [0.0, 1 / 256])
def test_faint_gaussians_are_skipped(shim: ModuleType, opacity: float) -> None:
    result = shim_renderer(shim)(single(cluster(3, opacity=opacity)), None, SQUARE)
    assert result.radii.tolist() == [0, 0, 0]
    assert result.alpha.max() == 0


def test_alpha_is_clamped_at_99_percent(shim: ModuleType) -> None:
    inputs = cluster(1, opacity=1.0) | {"scales": torch.full((1, 3), 50.0)}
    assert shim_renderer(shim)(single(inputs), None, SQUARE).alpha.max().item() == pytest.approx(0.99, 1e-6)


# --- schedules ---


@TILES
@pytest.mark.parametrize("size", [(37, 45), (9, 11)])
def test_images_do_not_depend_on_the_order_of_threads(
    shim: ModuleType, size: tuple[int, int], multiprocessors: int
) -> None:
    inputs, options = single(make_inputs(120, 20)), with_options(feature_size=size)
    expected = shim_renderer(shim, ORDERS[0], multiprocessors)(inputs, options)
    for order in ORDERS[1:]:
        assert_same(shim_renderer(shim, order, multiprocessors)(inputs, options), expected)


@pytest.mark.parametrize("options", [with_options(), SHARED_SIZE, with_options(feature_size=(9, 11))])
def test_the_host_waits_once(shim: ModuleType, options: RenderOptions) -> None:
    shim_renderer(shim)(single(make_inputs(30)), options)
    assert shim.synchronizations() == 1


# --- bad input ---


def _settings(**changes: Any) -> native.RasterizerSettings:
    camera = vars(CAMERA)
    settings = native.RasterizerSettings(**camera, sh_degree=3)
    return replace(settings, **changes)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    ["means", "quaternions", "scales", "opacities", "sh", "features", "screen_offsets", "cam_from_world"],
)
def test_not_finite(shim: ModuleType, name: str, bad: float) -> None:
    inputs = single(make_inputs(20))
    # The Gaussian in the middle of the view: colours and features of invisible ones are never looked at.
    inputs["means"][0] = torch.tensor([0.1, 0.3, 2.2])
    inputs[name].view(-1)[0] = bad
    with pytest.raises(ValueError, match="finite"):
        shim_renderer(shim)(inputs, SHARED_SIZE)


@TILES
@pytest.mark.parametrize("channels,channel", [(1, 0), (3, 2), (7, 5), (33, 32), (64, 40)])
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_every_feature_of_a_visible_gaussian_is_checked(
    shim: ModuleType, bad: float, channels: int, channel: int, multiprocessors: int
) -> None:
    inputs = single(cluster(45, channels=channels))
    inputs["features"][44, channel] = bad
    with pytest.raises(ValueError, match="finite features"):
        shim_renderer(shim, multiprocessors=multiprocessors)(inputs, SHARED_SQUARE, SQUARE)


@TILES
@pytest.mark.parametrize("size", [(16, 16), (2, 2)], ids=["shared", "own"])
@pytest.mark.parametrize("place", ["behind", "beside", "faint"])
def test_features_of_invisible_gaussians_are_not_looked_at(
    shim: ModuleType, place: str, size: tuple[int, int], multiprocessors: int
) -> None:
    inputs = single(cluster(40))
    if place == "faint":
        inputs["opacities"][7] = 0.001
    else:
        inputs["means"][7] = torch.tensor([0.3, 0.4, -1.0] if place == "behind" else [40.0, 0.0, 1.0])
    options = with_options(feature_size=size)
    render = shim_renderer(shim, multiprocessors=multiprocessors)
    expected = render(inputs, options, SQUARE)
    inputs["features"][7] = math.nan
    assert_same(render(inputs, options, SQUARE), expected)


def test_the_error_names_the_first_bad_gaussian(shim: ModuleType) -> None:
    inputs = single(make_inputs(700))
    inputs["means"][[345, 402, 699], 1] = math.nan
    with pytest.raises(ValueError, match="Gaussian 345:"):
        shim_renderer(shim, order=1)(inputs, None, Camera(2, 2, 2.0, 2.0, 1.0, 1.0))


def test_covariances_are_checked(shim: ModuleType) -> None:
    inputs = make_inputs(5)
    given = {name: inputs[name] for name in inputs if name not in ("quaternions", "scales")}
    covariances = torch.full((5, 6), 0.1, dtype=torch.float64)
    covariances[3, 5] = math.inf
    with pytest.raises(ValueError, match="Gaussian 3:"):
        shim_renderer(shim)(single(given | {"covariances": covariances}))


@pytest.mark.parametrize("name", ["means", "quaternions", "scales", "opacities", "screen_offsets"])
@pytest.mark.parametrize("factor", [0.0, -1.0, 1e-30, 1e18, 3e37])
def test_extreme_numbers_neither_crash_nor_spread(shim: ModuleType, name: str, factor: float) -> None:
    inputs = single(make_inputs(20))
    inputs[name] = inputs[name] * factor
    result = shim_renderer(shim)(inputs, with_options(feature_size=(9, 11)))
    assert bool(torch.isfinite(result.rgb).all())
