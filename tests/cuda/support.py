"""The CUDA half on the host shim: tensors on the CPU go to the real kernels, which run there as fibers."""

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult
from gsplatloc.scene.cameras import Camera
from gsplatloc_kernels import backends
from gsplatloc_kernels.cuda import CudaBackend
from tests.cuda.conftest import NATIVE
from tests.rasterizer.support import CAMERA, Inputs, render_native

# Threads and blocks in order, in reverse, and at random: what differs between them is a race.
ORDERS = (0, 1, 2, 3)
LARGE_TILES, SMALL_TILES = 1, 1 << 20  # multiprocessors that the images of these tests can and cannot fill


class ShimBackend(CudaBackend):
    """`CudaBackend` with the kernels compiled for the CPU, memory that notices overruns, and no stream."""

    def __init__(self, module: ModuleType, multiprocessors: int) -> None:
        self.module = module
        self.count = multiprocessors
        self.memories: list[Any] = []
        self.states: list[Any] = []  # of the passes so far

    def forward(self, settings: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> object:
        state = super().forward(settings, inputs, outputs)
        self.states.append(state[0])
        return state

    def memory(self) -> Any:
        """Poisoned memory with canaries; `check` looks at them."""
        memory = ShimMemory(self.module)
        self.memories.append(memory)
        return memory

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def stream(self) -> int:
        return 0

    def multiprocessors(self) -> int:
        return self.count

    def check(self) -> None:
        """Raise where a kernel wrote beside its memory."""
        for memory in self.memories:
            memory.check()


class ShimMemory:
    """One pass's memory. What the backward pass may not read becomes NaN again."""

    def __init__(self, module: ModuleType) -> None:
        self._memory = module.Memory()
        self._kept: list[int] = []
        self.sizes: list[int] = []  # of all allocations, bytes

    def __call__(self, count: int, kept: bool) -> int:
        address = int(self._memory(count))
        self.sizes.append(count)
        if kept:
            self._kept.append(address)
        return address

    def release(self) -> None:
        self._memory.check()
        self._memory.poison_except(self._kept)

    def check(self) -> None:
        self._memory.check()


@contextmanager
def on_shim(
    module: ModuleType,
    order: int = 0,
    multiprocessors: int = LARGE_TILES,
    backend: type[ShimBackend] = ShimBackend,
) -> Iterator[Any]:
    """Within, the package's functions take float32 tensors on the CPU to the shim; gives the backend."""
    used = backend(module, multiprocessors)
    module.set_order(order)
    module.reset_statistics()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "backend_for", lambda device: used)
        yield used
    module.set_order(0)
    used.check()


def shim_renderer(
    module: ModuleType, order: int = 0, multiprocessors: int = LARGE_TILES
) -> Callable[..., RenderResult]:
    """`render_native` on the shim."""

    def render(inputs: Inputs, options: RenderOptions | None = None, camera: Camera = CAMERA) -> RenderResult:
        with on_shim(module, order, multiprocessors):
            return render_native(inputs, options, camera)

    return render


def single(inputs: Inputs) -> Inputs:
    """The inputs in float32, which is all that a GPU takes."""
    return {name: tensor.float() for name, tensor in inputs.items()}


def address(tensor: Tensor) -> int:
    """For functions of the shim's modules; the tensor must outlive the call."""
    assert tensor.is_contiguous() and tensor.device == torch.device("cpu")
    return tensor.data_ptr()


LIBRARY = Path(__file__).with_name("on_gpu.cu")
INCLUDES = [f"-I{NATIVE / folder}" for folder in ("include", "src", "src/cuda")] + [f"-I{LIBRARY.parent}"]


def build_library(path: Path, architecture: str) -> None:
    """Compile `on_gpu.cu` to a shared library for one GPU."""
    options = ["-std=c++20", "-O3", f"-arch={architecture}", "-shared", "-Xcompiler", "-fPIC"]
    subprocess.run(["nvcc", *options, *INCLUDES, str(LIBRARY), "-o", str(path)], check=True)


def load_library(path: Path) -> ctypes.CDLL:
    """What `build_library` made, with the types of its functions."""
    library = ctypes.CDLL(str(path))
    library.multiply.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_bool]
    library.multiprocessor_bytes.restype = ctypes.c_int64
    for kernel in ("moments", "features"):
        getattr(library, f"resident_{kernel}").argtypes = [ctypes.c_bool, ctypes.POINTER(ctypes.c_int64)]
    return library
