"""Bad input gets a clear error or is handled; the interpreter survives all of it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import gsplatloc_kernels as native
from gsplatloc_kernels import _core
from gsplatloc_kernels.alignment import AlignmentBlock, normal_equations
from tests.rasterizer.support import CAMERA, Inputs, make_inputs, render_native, with_options

SETTINGS = native.RasterizerSettings(
    CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, sh_degree=3
)


def call(changes: dict[str, Any], **settings: Any) -> native.Rasterization:
    inputs: dict[str, Any] = {**make_inputs(20), **changes}
    return native.rasterize(**inputs, settings=replace(SETTINGS, **settings))


@pytest.mark.parametrize(
    "name,shape",
    [
        ("means", (20, 2)), ("means", (60,)), ("means", (19, 3)), ("quaternions", (20, 3)),
        ("scales", (20,)), ("scales", (21, 3)), ("opacities", (20, 1)), ("sh", (20, 16)), ("sh", (20, 9, 3)),
        ("sh", (3, 16, 3)), ("features", (20,)), ("features", (5, 3)), ("cam_from_world", (3, 4)),
        ("screen_offsets", (20, 3)),
    ],
)  # fmt: skip
def test_wrong_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        call({name: torch.rand(shape, dtype=torch.float64)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", ["means", "opacities", "features", "cam_from_world"])
def test_wrong_dtype(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="dtype"):
        call({name: make_inputs(20)[name].to(dtype)})


def test_wrong_device() -> None:
    with pytest.raises(ValueError, match="one device, found means on cpu and scales on meta"):
        call({"scales": torch.empty(20, 3, dtype=torch.float64, device="meta")})


def test_unknown_device() -> None:
    inputs = {name: tensor.to("meta") for name, tensor in make_inputs(20).items()}
    with pytest.raises(ValueError, match="expected means on the CPU or a CUDA device, found meta"):
        call(inputs)


@pytest.mark.parametrize("value", [[1.0, 2.0], "means", 3.0])
def test_not_a_tensor(value: object) -> None:
    with pytest.raises(TypeError, match="torch.Tensor"):
        call({"scales": value})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    ["means", "quaternions", "scales", "opacities", "sh", "features", "screen_offsets", "cam_from_world"],
)
def test_not_finite(name: str, bad: float) -> None:
    inputs = make_inputs(20)
    # The Gaussian in the middle of the view: colours and features of invisible ones are never looked at.
    inputs["means"][0] = torch.tensor([0.1, 0.3, 2.2], dtype=torch.float64)
    inputs[name].view(-1)[0] = bad
    with pytest.raises(ValueError, match="finite"):
        call(inputs)


def test_the_error_names_the_gaussian() -> None:
    inputs = make_inputs(3000)
    inputs["means"][2345, 1] = math.nan
    with pytest.raises(ValueError, match="Gaussian 2345"):
        render_native(inputs)


def huge(name: str, factor: float) -> Inputs:
    inputs = make_inputs(20, dtype=torch.float32)
    return inputs | {name: inputs[name] * factor}


@pytest.mark.parametrize("name", ["means", "quaternions", "scales", "opacities", "screen_offsets"])
@pytest.mark.parametrize("factor", [0.0, -1.0, 1e-30, 1e18, 3e37])
def test_extreme_numbers_neither_crash_nor_spread(name: str, factor: float) -> None:
    inputs = {key: tensor.requires_grad_() for key, tensor in huge(name, factor).items()}
    result = render_native(inputs, with_options(feature_size=(9, 11), features_move_geometry=True))
    assert bool(torch.isfinite(result.rgb).all())
    result.rgb.sum().backward()


def test_non_contiguous_inputs_are_handled() -> None:
    inputs = make_inputs(50)
    strided = {name: torch.stack([tensor, tensor * 0], -1)[..., 0] for name, tensor in inputs.items()}
    assert not strided["means"].is_contiguous()
    assert torch.equal(render_native(inputs).rgb, render_native(strided).rgb)


def test_expanded_upstream_gradients_are_handled() -> None:
    inputs = {name: tensor.requires_grad_() for name, tensor in make_inputs(20).items()}
    render_native(inputs).rgb.sum().backward()
    assert inputs["means"].grad is not None


def test_upstream_gradients_with_a_graph_are_handled() -> None:
    means = make_inputs(20)["means"].requires_grad_()
    (gradient,) = torch.autograd.grad(call({"means": means}).rgb.square().sum(), means, create_graph=True)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0}, {"height": -3}, {"width": 1 << 20, "height": 1 << 20}, {"fx": 0.0}, {"fy": math.nan},
        {"cx": math.inf}, {"near": -1.0}, {"low_pass": 0.0}, {"sh_degree": 4}, {"threads": 0},
        {"threads": 10**6}, {"background": (0.0, 1.0)}, {"background": (0.0, math.nan, 0.0)},
        {"feature_width": -1}, {"feature_width": 1 << 30}, {"background": [0.0] * 4},
        {"background": torch.zeros(2)}, {"background": []},
    ],
)  # fmt: skip
def test_settings_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        call({}, **changes)


@pytest.mark.parametrize("name", ["width", "height", "feature_width", "feature_height", "max_intersections"])
@pytest.mark.parametrize("value", [64.0, "64"])
def test_sizes_that_are_not_integers(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"expected an integer {name}, found"):
        call({}, **{name: value})


@pytest.mark.parametrize("background", [[0.1, 0.2, 0.3], torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)])
def test_any_sequence_of_three_is_a_background(background: Any) -> None:
    assert torch.equal(call({}, background=background).rgb, call({}, background=(0.1, 0.2, 0.3)).rgb)


@pytest.mark.parametrize("background", [None, 0.5, "red", torch.zeros(()), torch.zeros(3, 3), (None,) * 3])
def test_background_that_is_not_numbers(background: Any) -> None:
    with pytest.raises(TypeError, match="expected a background of 3 numbers"):
        call({}, background=background)


@pytest.mark.parametrize(
    "changes",
    [
        {"sh": None}, {"colors": torch.rand(20, 3, dtype=torch.float64)}, {"scales": None},
        {"covariances": torch.rand(20, 6, dtype=torch.float64)}, {"means": None}, {"cam_from_world": None},
    ],
)  # fmt: skip
def test_missing_or_doubled_inputs(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expected"):
        call(changes)


def test_no_channels_give_an_empty_feature_map() -> None:
    result = call({"features": torch.zeros(20, 0, dtype=torch.float64)})
    assert result.features is not None and result.features.shape == (0, CAMERA.height, CAMERA.width)


def test_max_intersections_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="max_intersections = 5"):
        call({}, max_intersections=5)


@pytest.mark.parametrize("threads", [-1, 0, 1025, -(2**31), 2**40, 0.5, "2"])
def test_a_number_of_threads_that_is_none(threads: Any) -> None:
    image = torch.rand(3, 40, 50, requires_grad=True)
    moments = [torch.rand(40, 3) for _ in range(4)]
    block = AlignmentBlock("photometric", torch.rand(3, 9), torch.rand(9), torch.rand(8, 8), (9.0, 9, 4, 4))
    for run in (
        lambda: native.photometric_loss(image, torch.rand(3, 40, 50), 0.2, threads=threads),
        lambda: native.adam_step([native.AdamParameter(*moments, 0.1, 1)], threads=threads),
        lambda: normal_equations(block, torch.eye(4), 0.1, threads=threads),
        lambda: call({}, threads=threads),
    ):
        with pytest.raises((ValueError, TypeError), match="threads"):
            run()


@pytest.mark.parametrize("size", [0, 1, 19, 21, 4000])
@pytest.mark.parametrize("name", ["means", "scales", "opacities", "sh", "features", "cam_from_world"])
def test_tensors_replaced_between_forward_and_backward(name: str, size: int) -> None:
    inputs = {key: tensor.requires_grad_() for key, tensor in make_inputs(20).items()}
    result = call(inputs)
    inputs[name].data = torch.rand(size, *inputs[name].shape[1:], dtype=torch.float64)
    with pytest.raises(RuntimeError, match="before the backward pass"):
        result.rgb.sum().backward()


def test_an_alignment_block_whose_tensors_were_replaced() -> None:
    block = AlignmentBlock(
        "photometric", torch.rand(3, 900), torch.rand(900), torch.rand(8, 8), (9.0, 9, 4, 4)
    )
    block.reference.data = torch.rand(1)
    with pytest.raises(ValueError, match="reference"):
        normal_equations(block, torch.eye(4), 0.1)


@pytest.mark.parametrize("threads", [-1, 0])
def test_the_compiled_loss_itself_survives_a_number_of_threads(threads: int) -> None:
    images = [torch.rand(3, 40, 50) for _ in range(3)]
    assert _core.photometric_float32(*images, 0.2, threads) == _core.photometric_float32(*images, 0.2, 1)


def test_the_compiled_loss_itself_checks_sizes() -> None:
    large, small = torch.rand(3, 40, 50), torch.rand(3, 4, 5)
    for images in ((large, small, None), (large, large, small), (large[0], large[0], None)):
        with pytest.raises(ValueError, match="expected"):
            _core.photometric_float32(*images, 0.2, 1)


def test_garbage_covariances_do_not_crash() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs: dict[str, Any] = make_inputs(200)
    inputs |= {"quaternions": None, "scales": None}
    inputs["covariances"] = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    assert bool(torch.isfinite(native.rasterize(**inputs, settings=SETTINGS).rgb).all())
