"""The backward kernels, on the host shim: against the PyTorch reference, the CPU backend, and themselves."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch import Tensor

import gsplatloc_kernels as native
from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult
from gsplatloc.gaussian_renderer.reference import covariances
from gsplatloc.scene.cameras import Camera
from gsplatloc_kernels import cuda
from tests.cuda.support import LARGE_TILES, ORDERS, SMALL_TILES, on_shim, single
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
FULL_SIZE = (CAMERA.height, CAMERA.width)
EIGHTH = (9, 11)
BACKGROUND = (0.3, 0.1, 0.8)


@dataclass(frozen=True)
class Case:
    """What is differentiated, and on which schedule."""

    options: RenderOptions = RenderOptions()
    camera: Camera = CAMERA
    images: tuple[str, ...] = IMAGES  # that the loss depends on
    wanted: tuple[str, ...] | None = None  # inputs with a gradient, None = all
    order: int = 0  # of the shim's threads and blocks
    multiprocessors: int = LARGE_TILES


def loss_of(result: RenderResult, images: Iterable[str]) -> Tensor:
    """A scalar in which every pixel of `images` has its own random weight."""
    total = result.rgb.new_zeros(())
    for seed, name in enumerate(IMAGES):
        image = getattr(result, name)
        if image is None or name not in images:
            continue
        generator = torch.Generator().manual_seed(seed)
        weight = torch.rand(image.shape, generator=generator, dtype=torch.float64) - 0.4
        total = total + (image * weight.to(image)).sum()
    return total


def gradients(render: Callable[..., RenderResult], inputs: Inputs, case: Case) -> Inputs:
    """Gradients of `loss_of` by the inputs wanted; zeros where none came."""
    wanted = inputs.keys() if case.wanted is None else case.wanted
    leaves = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    for name in wanted:
        leaves[name].requires_grad_()
    loss_of(render(leaves, case.options, case.camera), case.images).backward()
    found = {name: leaves[name].grad for name in wanted}
    return {name: torch.zeros_like(leaves[name]) if grad is None else grad for name, grad in found.items()}


def shim_gradients(shim: ModuleType, inputs: Inputs, case: Case) -> Inputs:
    with on_shim(shim, case.order, case.multiprocessors):
        return gradients(render_native, single(inputs), case)


def assert_close(found: Inputs, expected: Inputs, relative: float) -> None:
    """Relative to the largest entry of each gradient."""
    for name, gradient in expected.items():
        assert torch.isfinite(found[name]).all(), name
        scale = gradient.abs().max().clamp_min(1e-3)
        error = ((found[name] - gradient).abs().max() / scale).item() if gradient.numel() else 0.0
        assert error < relative, f"{name}: {error:.2g}"


def check(shim: ModuleType, inputs: Inputs, case: Case, relative: float = 1e-4) -> Inputs:
    """Gradients on the shim, compared with the reference's in float64 by the same numbers."""
    found = shim_gradients(shim, inputs, case)
    exact = {name: tensor.double() for name, tensor in single(inputs).items()}
    assert_close(found, gradients(render_reference, exact, case), relative)
    return found


def assert_same(found: Inputs, expected: Inputs) -> None:
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


def in_one_tile(count: int, opacity: float, channels: int = 3) -> Inputs:
    """Small Gaussians one behind the other, all of them in the first tile."""
    inputs = make_inputs(count, channels)
    generator = torch.Generator().manual_seed(count)
    spot = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    z = 1 + torch.rand(count, 1, generator=generator, dtype=torch.float64)
    focal = torch.tensor([CAMERA.fx, CAMERA.fy], dtype=torch.float64)
    centre = torch.tensor([CAMERA.cx, CAMERA.cy], dtype=torch.float64)
    return inputs | {
        "means": torch.cat([(3 + 10 * spot - centre) / focal * z, z], 1),
        "scales": 0.2 * inputs["scales"] + 0.02,
        "opacities": torch.full((count,), opacity, dtype=torch.float64),
        "cam_from_world": torch.eye(4, dtype=torch.float64),
        "screen_offsets": torch.zeros(count, 2, dtype=torch.float64),
    }


# --- against the reference and the CPU ---


@TILES
@pytest.mark.parametrize("moves", [False, True], ids=["fixed", "moving"])
@pytest.mark.parametrize("size", [None, FULL_SIZE, EIGHTH], ids=["none", "full", "eighth"])
@pytest.mark.parametrize("antialiased", [False, True], ids=["plain", "antialiased"])
def test_matches_the_reference(
    shim: ModuleType, antialiased: bool, size: tuple[int, int] | None, moves: bool, multiprocessors: int
) -> None:
    options = with_options(
        feature_size=size, features_move_geometry=moves, antialiased=antialiased, background=BACKGROUND
    )
    check(shim, make_inputs(100, 7), Case(options, multiprocessors=multiprocessors))


@pytest.mark.parametrize("moves", [False, True], ids=["fixed", "moving"])
@pytest.mark.parametrize("size", [FULL_SIZE, EIGHTH], ids=["full", "eighth"])
@pytest.mark.parametrize("images", [*((name,) for name in IMAGES), ("rgb", "depth"), ("alpha", "features")])
def test_some_images_without_the_others(
    shim: ModuleType, images: tuple[str, ...], size: tuple[int, int], moves: bool
) -> None:
    options = with_options(feature_size=size, features_move_geometry=moves, background=BACKGROUND)
    check(shim, make_inputs(60, 5), Case(options, images=images))


@pytest.mark.parametrize(
    "options", [with_options(feature_size=FULL_SIZE), with_options(feature_size=(19, 30))]
)
def test_matches_the_cpu_backend(shim: ModuleType, options: RenderOptions) -> None:
    inputs = single(make_inputs(300, seed=5))
    expected = gradients(render_native, inputs, Case(options))
    assert_close(shim_gradients(shim, inputs, Case(options)), expected, 1e-4)


@TILES
@pytest.mark.parametrize("moves", [False, True], ids=["fixed", "moving"])
@pytest.mark.parametrize("channels", [1, 3, 32, 34, 64, 100])
def test_any_channel_count(shim: ModuleType, channels: int, moves: bool, multiprocessors: int) -> None:
    options = with_options(feature_size=EIGHTH, features_move_geometry=moves)
    check(shim, make_inputs(40, channels), Case(options, multiprocessors=multiprocessors))


@TILES
@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("channels", [70, 100, 129])
def test_channels_one_after_the_other_give_the_same_gradients_in_less_memory(
    shim: ModuleType, channels: int, precision: str, multiprocessors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = single(make_inputs(60, channels))
    inputs["features"].requires_grad_()
    settings = native.RasterizerSettings(
        **{name: getattr(CAMERA, name) for name in ("width", "height", "fx", "fy", "cx", "cy")},
        feature_precision=precision,
    )
    weight = torch.rand(channels, *FULL_SIZE, generator=torch.Generator().manual_seed(0)) - 0.4
    found, taken, launched = [], [], []
    for limit in (cuda.FEATURE_BYTES, 0):
        monkeypatch.setattr(cuda, "FEATURE_BYTES", limit)
        with on_shim(shim, multiprocessors=multiprocessors) as backend:
            features = native.rasterize(**inputs, settings=settings).features
            assert features is not None
            found += torch.autograd.grad((features * weight).sum(), inputs["features"])
            taken.append(backend.memories[-1].sizes[0])
            launched.append(shim.launches())
    width = 32 if precision == "float32" else 64
    assert torch.equal(*found)
    assert launched[1] - launched[0] == 2 * ((channels + width - 1) // width - 1)
    assert taken[1] < (width / channels + 0.1) * taken[0]


@pytest.fixture
def little_shared_memory(shim: ModuleType) -> Iterator[None]:
    """As much of it per block as GPUs of sm_75 have."""
    shim.set_shared_limit(64 << 10)
    yield
    shim.set_shared_limit(shim.SHARED_LIMIT)


@TILES
@pytest.mark.usefixtures("little_shared_memory")
def test_64_kilobytes_of_shared_memory_are_enough(shim: ModuleType, multiprocessors: int) -> None:
    options = with_options(feature_size=FULL_SIZE, features_move_geometry=True)
    check(shim, make_inputs(40, 70), Case(options, multiprocessors=multiprocessors))


@pytest.mark.usefixtures("little_shared_memory")
def test_tf32_products_with_64_kilobytes_of_shared_memory(shim: ModuleType) -> None:
    assert_tf32_rounding(shim, 70)


@pytest.mark.parametrize("channels", [3, 70])
def test_tf32_products_err_by_their_rounding_only(shim: ModuleType, channels: int) -> None:
    assert_tf32_rounding(shim, channels)


def assert_tf32_rounding(shim: ModuleType, channels: int) -> None:
    """Images and gradients of features err by the rounding of both factors, and no more."""
    inputs = single(make_inputs(60, channels))
    inputs["features"].requires_grad_()
    settings = native.RasterizerSettings(
        **{name: getattr(CAMERA, name) for name in ("width", "height", "fx", "fy", "cx", "cy")},
        feature_precision="tf32",
    )
    weight = torch.rand(channels, *FULL_SIZE, generator=torch.Generator().manual_seed(0)) - 0.4
    with on_shim(shim):
        features = native.rasterize(**inputs, settings=settings).features
        assert features is not None
        (found,) = torch.autograd.grad((features * weight).sum(), inputs["features"])
    exact = {name: tensor.detach().double() for name, tensor in inputs.items()}
    exact["features"].requires_grad_()
    image = render_reference(exact, with_options(feature_size=FULL_SIZE)).features
    assert image is not None
    (expected,) = torch.autograd.grad((image * weight).sum(), exact["features"], retain_graph=True)
    (magnitude,) = torch.autograd.grad((image * weight.abs()).sum(), exact["features"])
    # Both factors are rounded to 2^-11, weights to float32 before.
    assert ((found - expected).abs() <= (2 * 2**-11 + 1e-5) * magnitude + 1e-7).all()


@pytest.mark.parametrize("width,height", [(1, 1), (8, 4), (7, 9), (33, 5), (16, 33)])
@TILES
def test_images_of_any_size(shim: ModuleType, width: int, height: int, multiprocessors: int) -> None:
    camera = Camera(width, height, 20.0, 25.0, 0.4 * width, 0.6 * height)
    options = with_options(feature_size=(height, width), background=BACKGROUND)
    check(shim, make_inputs(50), Case(options, camera, multiprocessors=multiprocessors))


@pytest.mark.parametrize("degree", range(4))
def test_every_sh_degree(shim: ModuleType, degree: int) -> None:
    found = check(shim, make_inputs(60), Case(with_options(sh_degree=degree)))
    assert found["sh"][:, (degree + 1) ** 2 :].abs().sum() == 0


@pytest.mark.parametrize("bases", [1, 4, 9])
def test_harmonics_stored_to_every_degree(shim: ModuleType, bases: int) -> None:
    inputs = make_inputs(60)
    check(shim, inputs | {"sh": inputs["sh"][:, :bases]}, Case())


def test_colors_and_covariances_instead_of_sh_and_scales(shim: ModuleType) -> None:
    inputs = make_inputs(60)
    inputs["covariances"] = covariances(inputs.pop("quaternions"), inputs.pop("scales"))
    inputs["colors"] = inputs.pop("sh")[:, 0] + 0.5
    check(shim, inputs, Case(with_options(feature_size=EIGHTH, features_move_geometry=True)))


def test_negative_colors_are_clamped_without_gradient(shim: ModuleType) -> None:
    inputs = make_inputs(60)
    inputs["sh"][:, 0] -= 2.5
    check(shim, inputs, Case())


def test_gaussians_beyond_the_frustum_margin(shim: ModuleType) -> None:
    inputs = make_inputs(60)
    inputs["means"][:30, 0] += 2.5
    inputs["means"][30:, 1] -= 2.5
    inputs["scales"] = inputs["scales"] * 8
    check(shim, inputs, Case(), relative=1e-3)


def test_an_alpha_that_is_clamped_everywhere_has_no_geometric_gradient(shim: ModuleType) -> None:
    inputs = make_inputs(1)
    inputs["means"] = torch.tensor([[0.1, 0.3, 2.0]], dtype=torch.float64)
    inputs["scales"] = torch.full((1, 3), 1e3, dtype=torch.float64)
    inputs["opacities"] = torch.ones(1, dtype=torch.float64)
    found = shim_gradients(shim, inputs, Case())
    assert found["opacities"].abs().max() == 0
    assert found["screen_offsets"].abs().max() == 0
    assert found["sh"].abs().max() > 0


# --- lists of every length ---


@TILES
@pytest.mark.parametrize("count", [1, 31, 32, 33, 257])
def test_any_number_of_gaussians_in_a_tile(shim: ModuleType, count: int, multiprocessors: int) -> None:
    options = with_options(feature_size=FULL_SIZE, features_move_geometry=True)
    # Where one splat is alone its depth is the pixel's: what is left of the difference is rounding.
    relative = 1e-3 if count == 1 else 1e-4
    check(shim, in_one_tile(count, 0.02), Case(options, multiprocessors=multiprocessors), relative)


@TILES
def test_gaussians_behind_opaque_ones_have_zero_gradients(shim: ModuleType, multiprocessors: int) -> None:
    inputs = in_one_tile(300, 0.95)
    inputs["scales"] *= 20  # cover the whole tile
    options = with_options(feature_size=FULL_SIZE)
    found = check(shim, inputs, Case(options, multiprocessors=multiprocessors))
    last = inputs["means"][:, 2].argsort()[-150:]
    assert found["features"][last].abs().sum() == found["means"][last].abs().sum() == 0


@TILES
@pytest.mark.parametrize(
    "front,faint", [([0.9], 0), ([0.985], 0), ([0.9, 0.9], 0), ([0.97, 0.98], 0), ([0.95], 300)]
)
def test_the_last_gaussian_behind_nearly_opaque_ones(
    shim: ModuleType, front: list[float], faint: int, multiprocessors: int
) -> None:
    """The sum behind a splat comes of a difference, whose error the last one's gradient must not show."""
    opacities = torch.tensor([0.01] * faint + front + [0.7], dtype=torch.float64)
    count = len(opacities)
    inputs = in_one_tile(count, 0.5) | {
        "opacities": opacities,
        "scales": torch.full((count, 3), 5.0).double(),
    }
    inputs["means"][:, 2] = 1 + torch.arange(count) / count
    for moves in (False, True):
        options = with_options(feature_size=FULL_SIZE, features_move_geometry=moves)
        case = Case(options, multiprocessors=multiprocessors)
        exact = {name: tensor.double() for name, tensor in single(inputs).items()}
        expected, found = gradients(render_reference, exact, case), shim_gradients(shim, inputs, case)
        for name in ("opacities", "screen_offsets", "means", "scales", "sh", "features"):
            last, oracle = found[name][-1].double(), expected[name][-1]
            error = ((last - oracle).norm() / oracle.norm()).item()
            assert error < 2e-3, f"{name}: {error:.2g}"


def test_gaussians_that_touch_hundreds_of_tiles(shim: ModuleType) -> None:
    camera = Camera(130, 100, 80.0, 85.0, 60.0, 54.0)
    inputs = make_inputs(5, 34)
    inputs["scales"] *= 20
    inputs["opacities"] *= 0.3
    options = with_options(feature_size=(100, 130))
    check(shim, inputs, Case(options, camera, multiprocessors=SMALL_TILES))


def test_gaussians_seen_by_one_raster_only(shim: ModuleType) -> None:
    """The feature map's low-pass filter lets Gaussians reach it that miss the image."""
    inputs = make_inputs(60)
    inputs["means"][:, 0] += 1.1
    options = with_options(feature_size=(3, 4), features_move_geometry=True)
    for images in (("features",), ("rgb",), IMAGES):
        check(shim, inputs, Case(options, images=images))


@pytest.mark.parametrize("count", [0, 40])
def test_invisible_gaussians_have_zero_gradients(shim: ModuleType, count: int) -> None:
    inputs = make_inputs(count)
    inputs["means"] = inputs["means"] * torch.tensor([1.0, 1.0, -1.0])
    found = shim_gradients(shim, inputs, Case(with_options(feature_size=EIGHTH)))
    assert all(gradient.abs().sum() == 0 for gradient in found.values())
    assert found["cam_from_world"].shape == (4, 4)


# --- what is asked for, and in which order it is computed ---


@pytest.mark.parametrize("size", [FULL_SIZE, EIGHTH], ids=["full", "eighth"])
@pytest.mark.parametrize(
    "wanted", [("cam_from_world",), ("features",), ("opacities", "sh"), ("means", "scales"), ("quaternions",)]
)
def test_gradients_do_not_depend_on_which_are_wanted(
    shim: ModuleType, wanted: tuple[str, ...], size: tuple[int, int]
) -> None:
    options = with_options(feature_size=size, features_move_geometry=True)
    everything = shim_gradients(shim, make_inputs(50), Case(options))
    assert_same(shim_gradients(shim, make_inputs(50), Case(options, wanted=wanted)), everything)


@TILES
@pytest.mark.parametrize("size", [FULL_SIZE, EIGHTH], ids=["full", "eighth"])
def test_gradients_are_the_same_in_every_order(
    shim: ModuleType, size: tuple[int, int], multiprocessors: int
) -> None:
    options = with_options(feature_size=size, features_move_geometry=True)
    runs = [
        shim_gradients(shim, make_inputs(60, 5), Case(options, order=order, multiprocessors=multiprocessors))
        for order in ORDERS
    ]
    for run in runs[1:]:
        assert_same(run, runs[0])


def test_backward_twice_through_a_retained_graph(shim: ModuleType) -> None:
    inputs = single(make_inputs(30))
    leaf = inputs["means"].requires_grad_()
    with on_shim(shim):
        loss = loss_of(render_native(inputs, with_options(feature_size=EIGHTH)), IMAGES)
        (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        (second,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(first, second)
