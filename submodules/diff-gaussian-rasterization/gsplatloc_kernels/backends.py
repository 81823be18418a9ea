"""Choice of the backend, the CPU or a GPU, by the device of the tensors."""

from typing import Any, Protocol

import torch
from torch import Tensor

from gsplatloc_kernels import _core
from gsplatloc_kernels.cuda import CudaBackend
from gsplatloc_kernels.memory import comes_fresh
from gsplatloc_kernels.training import CpuTraining, Training


class Backend(Training, Protocol):
    """Runs forward and backward passes over tensors by name, checked and contiguous."""

    checks_values: bool  # whether Python looks for NaN in the inputs
    writes_features: bool  # whether a small gradient of features may be uninitialised on entry
    counts_later: bool  # whether `outputs` may have "counts", which the caller checks after the pass

    def forward(self, settings: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> object:
        """Fill `outputs`; returns the state for `backward`."""
        ...

    def backward(
        self,
        state: Any,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        d_outputs: dict[str, Any],
        d_inputs: dict[str, Any],
    ) -> None:
        """Fill `d_inputs`, zero on entry; with `writes_features`, small gradients of features need not be."""
        ...

    def check_capacity(self, counts: Tensor, capacity: int) -> None:
        """With `counts_later`: raise what a pass with this capacity could not raise."""
        ...


class CpuBackend(CpuTraining):
    """Runs passes on the CPU, in float32 or float64."""

    checks_values = True
    writes_features = True
    counts_later = False

    def forward(self, settings: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> object:
        single = inputs["means"].dtype == torch.float32
        run = _core.forward_float32 if single else _core.forward_float64
        state: object = run(settings, inputs, outputs)
        return state

    def backward(
        self,
        state: Any,
        settings: dict[str, Any],
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        d_outputs: dict[str, Any],
        d_inputs: dict[str, Any],
    ) -> None:
        features = d_inputs.get("features")
        zeroed = features is None or comes_fresh(features)
        _core.backward(state, settings, inputs, outputs, d_outputs, d_inputs, zeroed)

    def check_capacity(self, counts: Tensor, capacity: int) -> None:
        """Never called: a pass raises what there is."""


def backend_for(device: torch.device) -> Backend:
    """The backend for tensors on `device`. ImportError for a GPU where the package was built without CUDA."""
    return CudaBackend(device) if device.type == "cuda" else CpuBackend()
