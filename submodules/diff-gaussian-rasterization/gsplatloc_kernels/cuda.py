"""The CUDA half: its module, memory and stream. Arrays are passed as addresses, which waits for nothing."""

from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gsplatloc_kernels import interface
from gsplatloc_kernels.training import CudaTraining

# Most memory for the gradients of features of all tile intersections, unless 32 channels take more.
FEATURE_BYTES = 256 << 20
BUILD = f"GSPLAT_CUDA=ON {interface.BUILD}"


def has_cuda() -> bool:
    """Whether this package was built with its CUDA half; the machine may still have no GPU.

    Raises InterfaceError for a CUDA half of another interface.
    """
    try:
        extension()
    except interface.InterfaceError:
        raise
    except ImportError:
        return False
    return True


@cache
def extension() -> ModuleType:
    """The compiled CUDA half. Raises ImportError with the command that builds it, or builds it again."""
    try:
        module = import_module("gsplatloc_kernels._cuda")
    except ImportError as error:
        raise ImportError(
            f"expected a rasterizer with CUDA for tensors on a GPU, found one for the CPU ({error}): build it"
            f" with `{BUILD}`, or move the tensors with .cpu()"
        ) from error
    interface.check_interface(module, BUILD)
    return module


class Memory:
    """Allocates device memory for C++ code from torch's caching allocator; freed with this object."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: list[Tensor] = []
        self._scratch: list[Tensor] = []

    def __call__(self, count: int, kept: bool) -> int:
        """The address of `count` bytes, `kept` or until `release`."""
        try:
            block = torch.empty(count, dtype=torch.uint8, device=self._device)
        except torch.cuda.OutOfMemoryError as error:  # the name that torch 2.4 has as well
            error.add_note(f"asked for {count} bytes on {self._device}")
            raise
        (self._kept if kept else self._scratch).append(block)
        return block.data_ptr()

    def release(self) -> None:
        """Free the scratch. Work on it may still be under way: torch hands it out again on the same stream
        only, so that the next pass there takes the same memory."""
        self._scratch.clear()


class CudaBackend(CudaTraining):
    """Runs passes on one GPU, on torch's current stream of it."""

    checks_values = False  # the kernels do, and report it with the one count that the host waits for
    counts_later = True
    writes_features = False  # the gradient of features must be zero on entry, like the others

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.module = extension()

    def forward(self, settings: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> object:
        """Fill `outputs`; returns the state for `backward`."""
        memory = self.memory()
        with self.current():
            state = self.module.forward(
                self._settings(settings), addresses(inputs), addresses(outputs), memory, self.stream()
            )
        memory.release()
        return state, memory

    def backward(
        self,
        state: Any,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        d_outputs: dict[str, Any],
        d_inputs: dict[str, Any],
    ) -> None:
        """Fill `d_inputs`, which must be zero on entry."""
        tensors = (addresses(group) for group in (inputs, outputs, d_outputs, d_inputs))
        with self.current():
            self.module.backward(state[0], self._settings(settings), *tensors, self.memory(), self.stream())

    def memory(self) -> Any:
        """A new allocator for one pass: `Memory`, or what a test puts in its place."""
        return Memory(self.device)

    def current(self) -> AbstractContextManager[object]:
        """Makes the device the current one, as kernel launches want it."""
        return torch.cuda.device(self.device)

    def stream(self) -> int:
        """The handle of the caller's stream."""
        return torch.cuda.current_stream(self.device).cuda_stream

    def multiprocessors(self) -> int:
        """How many blocks of a kernel run at once, in units of what fits on one multiprocessor."""
        return _multiprocessors(self.device)

    def check_capacity(self, counts: Tensor, capacity: int) -> None:
        """Raise what a pass with this capacity could not raise; the host waits for it."""
        self.module.check_capacity(counts.tolist(), capacity)

    def _settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        own = {"multiprocessors": self.multiprocessors(), "feature_bytes": FEATURE_BYTES}
        capacity = settings["intersection_capacity"]
        return settings | own | ({} if capacity is None else {"max_intersections": capacity})


@cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def addresses(tensors: dict[str, Tensor | None]) -> dict[str, int]:
    """The tensors' addresses by name; those that are None are left out."""
    return {name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None}
