"""How the Python package and the CUDA half meet: choice of the backend, errors, memory, tiles, threads."""

import re
import threading
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import gsplatloc_kernels as native
from gsplatloc_kernels import cuda
from tests.cuda.support import LARGE_TILES, SMALL_TILES, ShimBackend, on_shim, single
from tests.rasterizer.support import CAMERA, Inputs, make_inputs, render_native, with_options

SETTINGS = native.RasterizerSettings(
    CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, sh_degree=3
)


def rasterize(inputs: Inputs, **settings: Any) -> native.Rasterization:
    given: dict[str, Any] = dict(inputs)
    return native.rasterize(**given, settings=replace(SETTINGS, **settings))


def on_gpu(inputs: Inputs, names: set[str] | None = None) -> Inputs:
    """Stand-ins without numbers that say they were on a GPU, for those of `names`."""
    with FakeTensorMode():
        return {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
            if names is None or name in names
            else torch.empty(tensor.shape, dtype=tensor.dtype)
            for name, tensor in inputs.items()
        }


# --- without the shim ---


def test_mixed_devices_are_named() -> None:
    inputs = on_gpu(single(make_inputs(20)), {"scales", "sh"})
    with pytest.raises(ValueError, match="one device, found means on cpu and scales on cuda:0"):
        rasterize(inputs)


def test_a_pose_left_behind_on_the_cpu_is_named() -> None:
    inputs = on_gpu(single(make_inputs(20)), set(make_inputs(1)) - {"cam_from_world"})
    with pytest.raises(ValueError, match="found means on cuda:0 and cam_from_world on cpu"):
        rasterize(inputs)


def test_float64_is_for_the_cpu() -> None:
    with pytest.raises(TypeError, match="float32 on a GPU, found float64, which is for the CPU"):
        rasterize(on_gpu(make_inputs(20)))


@pytest.mark.skipif(native.has_cuda(), reason="the package was built with CUDA")
def test_a_build_without_cuda_says_how_to_make_one_with_it() -> None:
    with pytest.raises(ImportError, match="GSPLAT_CUDA=ON pip install"):
        rasterize(on_gpu(single(make_inputs(20))))


def test_unknown_feature_precision() -> None:
    with pytest.raises(ValueError, match="float32, tf32, found 'half'"):
        rasterize(make_inputs(20), feature_precision="half")


@pytest.mark.parametrize("max_intersections", [-1, 1 << 32])
def test_more_intersections_than_can_be_numbered(max_intersections: int) -> None:
    with pytest.raises(ValueError, match="expected max_intersections from 0 to 4294967295"):
        rasterize(make_inputs(20), max_intersections=max_intersections)


def test_a_pass_frees_what_its_adjoint_does_not_read() -> None:
    memory = cuda.Memory(torch.device("cpu"))
    blocks = [memory(1000, kept) for kept in (False, True, False, True)]
    memory.release()
    assert [block.data_ptr() for block in memory._kept] == [blocks[1], blocks[3]]
    assert memory._scratch == []


# --- with it ---


@pytest.mark.parametrize("name", ["cam_from_world", "features", "means", "sh"])
def test_errors_are_those_of_the_cpu(shim: ModuleType, name: str) -> None:
    inputs = single(make_inputs(20))
    inputs["means"][0] = torch.tensor([0.1, 0.3, 2.2])  # in the middle of the view: its colour matters
    inputs[name].view(-1)[0] = torch.nan
    with pytest.raises(ValueError) as expected:
        rasterize(inputs)
    with on_shim(shim), pytest.raises(ValueError) as found:
        rasterize(inputs)
    assert str(found.value) == str(expected.value)


def test_too_many_intersections_are_a_memory_error_as_on_the_cpu(shim: ModuleType) -> None:
    inputs = single(make_inputs(20))
    with (
        on_shim(shim),
        pytest.raises(MemoryError, match="max_intersections = 5: render fewer or smaller"),
    ):
        rasterize(inputs, max_intersections=5)


class FullDevice(ShimBackend):
    """Refuses to allocate more than `left` bytes per pass."""

    left = 0

    def memory(self) -> Any:
        memory, left = super().memory(), [self.left]

        def allocate(count: int, kept: bool) -> int:
            left[0] -= count
            if left[0] < 0:
                raise torch.OutOfMemoryError(f"no room for {count} bytes")
            return int(memory(count, kept))

        allocate.release = memory.release  # type: ignore[attr-defined]
        return allocate


@pytest.mark.parametrize(
    "left,note",
    [(0, "300 Gaussians with 0 "), (100 << 10, r"300 Gaussians with \d\d\d+ tile intersections")],
)
def test_out_of_memory_passes_through_and_says_for_what(shim: ModuleType, left: int, note: str) -> None:
    inputs = single(make_inputs(300))
    inputs["scales"] *= 20  # many intersections
    with on_shim(shim, backend=FullDevice) as backend:
        backend.left = left
        with pytest.raises(torch.OutOfMemoryError, match="no room") as raised:
            render_native(inputs, with_options(feature_size=(300, 400)))
    notes = "\n".join(raised.value.__notes__)
    assert re.search(f"in rasterizing {note}", notes), notes


def test_out_of_memory_in_backward_says_for_what(shim: ModuleType) -> None:
    inputs = {name: tensor.requires_grad_() for name, tensor in single(make_inputs(300)).items()}
    with on_shim(shim, backend=FullDevice) as backend:
        backend.left = 1 << 30
        result = render_native(inputs)
        backend.left = 0
        with pytest.raises(torch.OutOfMemoryError) as raised:
            result.rgb.sum().backward()
    assert "in rasterizing 300 Gaussians" in raised.value.__notes__[0]


@pytest.mark.parametrize(
    "size", [None, (9, 11), (CAMERA.height, CAMERA.width)], ids=["none", "own", "shared"]
)
def test_a_pass_asks_for_memory_a_few_times(shim: ModuleType, size: tuple[int, int] | None) -> None:
    """Each call of the allocator costs microseconds in which the GPU may have nothing to do."""
    inputs = {name: tensor.requires_grad_() for name, tensor in single(make_inputs(100)).items()}
    with on_shim(shim) as backend:
        result = render_native(inputs, with_options(feature_size=size, features_move_geometry=True))
        result.rgb.sum().backward()
        assert [len(memory.sizes) for memory in backend.memories] == [4, 1]


@pytest.mark.parametrize(
    "multiprocessors,sides", [(LARGE_TILES, [16, 16]), (4, [16, 8]), (SMALL_TILES, [8, 8])]
)
def test_rasters_that_cannot_fill_the_gpu_are_cut_into_small_tiles(
    shim: ModuleType, multiprocessors: int, sides: list[int]
) -> None:
    with on_shim(shim, multiprocessors=multiprocessors) as backend:
        inputs = single(make_inputs(20))
        # 45 x 37 pixels are 3 x 3 large tiles, 30 x 19 are 2 x 2.
        result = render_native(
            {name: tensor.requires_grad_() for name, tensor in inputs.items()},
            with_options(feature_size=(19, 30)),
        )
        assert result.rgb.grad_fn is not None
        assert backend.states[-1].tiles == sides


def test_arrays_that_begin_anywhere_in_memory(shim: ModuleType) -> None:
    inputs = single(make_inputs(50))
    shifted = {}
    for name, tensor in inputs.items():
        shifted[name] = torch.empty(tensor.numel() + 1)[1:].view(tensor.shape).copy_(tensor)
        assert shifted[name].data_ptr() % 16 != 0
    options = with_options(feature_size=(9, 11))
    with on_shim(shim):
        expected, found = render_native(inputs, options), render_native(shifted, options)
    assert torch.equal(found.rgb, expected.rgb)
    assert found.features is not None and expected.features is not None
    assert torch.equal(found.features, expected.features)


def test_the_backward_pass_runs_after_the_inputs_are_gone(shim: ModuleType) -> None:
    def gradient(collect: bool) -> torch.Tensor:
        leaf = single(make_inputs(50))["means"].requires_grad_()
        inputs = single(make_inputs(50)) | {"means": leaf * 1.0}
        result = render_native(inputs, with_options(feature_size=(9, 11)))
        if collect:
            del inputs
        result.rgb.sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    with on_shim(shim):
        assert torch.equal(gradient(collect=True), gradient(collect=False))


def test_threads_may_render_at_once(shim: ModuleType) -> None:
    inputs = single(make_inputs(100))
    with on_shim(shim):
        expected = render_native(inputs).rgb
        found: list[torch.Tensor] = []
        workers = [threading.Thread(target=lambda: found.append(render_native(inputs).rgb)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(found) == 3
    assert all(torch.equal(image, expected) for image in found)
