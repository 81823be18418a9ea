"""Passes for which the caller gives room, on the host shim: they wait for nothing and are checked later."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch

import gsplatloc_kernels as native
from tests.cuda.support import LARGE_TILES, ORDERS, SMALL_TILES, on_shim, single
from tests.rasterizer.support import CAMERA, Inputs, make_inputs

TILES = pytest.mark.parametrize("multiprocessors", [LARGE_TILES, SMALL_TILES], ids=["large", "small"])
SIZES = pytest.mark.parametrize("size", [(11, 9), (CAMERA.width, CAMERA.height)], ids=["own", "shared"])
IMAGES = ("rgb", "depth", "alpha", "features")
Outcome = tuple[native.Rasterization, Inputs]


def settings_of(size: tuple[int, int], capacity: int | None = None) -> native.RasterizerSettings:
    return native.RasterizerSettings(
        CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, *size, sh_degree=3,
        background=(0.2, 0.4, 0.7), features_move_geometry=True, intersection_capacity=capacity,
    )  # fmt: skip


def run(inputs: Inputs, settings: native.RasterizerSettings) -> Outcome:
    """A view, and gradients of a sum in which every pixel has its own weight."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    view = native.rasterize(**leaves, settings=settings)
    generator = torch.Generator().manual_seed(0)
    images = [getattr(view, name) for name in IMAGES]
    loss = sum((image * torch.rand(image.shape, generator=generator)).sum() for image in images)
    return view, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def scene() -> Inputs:
    """Some Gaussians are behind the camera or beside the view."""
    inputs = single(make_inputs(150, 5))
    inputs["means"][::7, 2] *= -1
    inputs["means"][3::11, 0] += 30
    return inputs


def assert_same(found: Outcome, expected: Outcome) -> None:
    for name in (*IMAGES, "radii"):
        assert torch.equal(getattr(found[0], name), getattr(expected[0], name)), name
    for name, gradient in expected[1].items():
        assert torch.equal(found[1][name], gradient), name


@TILES
@SIZES
@pytest.mark.parametrize("spare", [0, 1, 1000])
def test_with_room_enough_everything_is_as_without(
    shim: ModuleType, spare: int, size: tuple[int, int], multiprocessors: int
) -> None:
    inputs = scene()
    with on_shim(shim, multiprocessors=multiprocessors):
        expected = run(inputs, settings_of(size))
        assert expected[0].counts is None
        probe = native.rasterize(**inputs, settings=settings_of(size, 100_000))
    assert probe.counts is not None
    needed = int(probe.counts[1:3].max())
    settings = settings_of(size, needed + spare)
    for order in ORDERS:
        with on_shim(shim, order, multiprocessors):
            found = run(inputs, settings)
            assert shim.synchronizations() == 0, "a graph that waits cannot be captured"
            found[0].check()
        assert_same(found, expected)


@TILES
@SIZES
def test_without_room_nothing_is_rendered_and_the_check_says_so(
    shim: ModuleType, size: tuple[int, int], multiprocessors: int
) -> None:
    inputs = scene()
    with on_shim(shim, multiprocessors=multiprocessors):
        probe = native.rasterize(**inputs, settings=settings_of(size, 100_000))
        assert probe.counts is not None
        needed = int(probe.counts[1:3].max())
        settings = settings_of(size, needed - 1)
        view, gradients = run(inputs, settings)
        assert view.alpha.abs().max() == 0 and view.features is not None and view.features.abs().max() == 0
        assert torch.equal(view.rgb[:, 0, 0], torch.tensor([0.2, 0.4, 0.7]))
        assert all(gradient.abs().max() == 0 for gradient in gradients.values())
        with pytest.raises(MemoryError, match=f"{needed} tiles.* intersection_capacity = {needed - 1}:"):
            view.check()


@pytest.mark.parametrize("capacity", [0, 500])
def test_no_gaussians_need_no_room(shim: ModuleType, capacity: int) -> None:
    inputs = {name: t if name == "cam_from_world" else t[:0] for name, t in scene().items()}
    settings = settings_of((11, 9), capacity)
    with on_shim(shim):
        view = native.rasterize(**inputs, settings=settings)
        view.check()
    assert view.alpha.abs().max() == 0


@pytest.mark.parametrize("name", ["cam_from_world", "features", "means", "sh"])
def test_numbers_that_are_not_finite_are_found_by_the_check(shim: ModuleType, name: str) -> None:
    inputs = scene()
    inputs["means"][0] = torch.tensor([0.1, 0.3, 2.2])  # in the middle of the view: its colour matters
    inputs[name].view(-1)[0] = torch.nan
    settings = settings_of((11, 9), 100_000)
    with on_shim(shim):
        view = native.rasterize(**inputs, settings=settings)
        assert view.alpha.abs().max() == 0 and bool(view.rgb.isfinite().all())
        with pytest.raises(ValueError, match="finite"):
            view.check()


def test_a_cpu_takes_what_it_needs() -> None:
    inputs = scene()
    view = native.rasterize(**inputs, settings=settings_of((11, 9), 1))
    view.check()
    assert view.counts is None
    assert torch.equal(view.rgb, native.rasterize(**inputs, settings=settings_of((11, 9))).rgb)


@pytest.mark.parametrize("capacity,error", [(-1, ValueError), (1 << 32, ValueError), (1.5, TypeError)])
def test_no_such_capacity(capacity: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="intersection_capacity"):
        native.rasterize(**scene(), settings=replace(settings_of((11, 9)), intersection_capacity=capacity))
