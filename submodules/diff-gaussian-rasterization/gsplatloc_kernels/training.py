"""Calls of the compiled photometric loss and Adam. The public functions have checked all arguments."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from gsplatloc_kernels import _core
from gsplatloc_kernels.checks import thread_count

if TYPE_CHECKING:
    from gsplatloc_kernels.optimizer import AdamParameter


class Training(Protocol):
    """What a backend does beside rasterizing."""

    def photometric_loss(
        self,
        rendered: Tensor,
        target: Tensor,
        gradient: Tensor | None,
        lambda_dssim: float,
        threads: int | None,
    ) -> Tensor:
        """The loss of contiguous images; fills `gradient`."""
        ...

    def adam_step(
        self,
        parameters: Sequence["AdamParameter"],
        betas: tuple[float, float],
        eps: float,
        threads: int | None,
    ) -> None:
        """Step parameters, none of them empty."""
        ...


class CpuTraining:
    """On the CPU, in float32 or float64."""

    def photometric_loss(
        self,
        rendered: Tensor,
        target: Tensor,
        gradient: Tensor | None,
        lambda_dssim: float,
        threads: int | None,
    ) -> Tensor:
        """The loss; fills `gradient`."""
        single = rendered.dtype == torch.float32
        run = _core.photometric_float32 if single else _core.photometric_float64
        difference, similarity = run(rendered, target, gradient, lambda_dssim, thread_count(threads))
        return rendered.new_tensor((1 - lambda_dssim) * difference + lambda_dssim * (1 - similarity))

    def adam_step(
        self,
        parameters: Sequence["AdamParameter"],
        betas: tuple[float, float],
        eps: float,
        threads: int | None,
    ) -> None:
        """Step parameters, none of them empty."""
        run = _core.adam_float32 if parameters[0].value.dtype == torch.float32 else _core.adam_float64
        native = []
        for each in parameters:
            rows, width = _matrix(each.value)
            tensors = (each.value, each.gradient, each.exp_avg, each.exp_avg_sq)
            visible = None if each.visible is None else each.visible.view(torch.uint8)
            native.append((*(tensor.view(rows, width) for tensor in tensors), visible, each.lr, each.step))
        run(native, *betas, eps, thread_count(threads))


class _CudaPass(Protocol):
    """What `CudaTraining` asks of the class that it is a part of."""

    module: ModuleType

    def memory(self) -> Any: ...
    def current(self) -> AbstractContextManager[object]: ...
    def stream(self) -> int: ...


class CudaTraining:
    """On one GPU, in float32, on torch's current stream. The host does not wait."""

    def photometric_loss(
        self: _CudaPass,
        rendered: Tensor,
        target: Tensor,
        gradient: Tensor | None,
        lambda_dssim: float,
        threads: int | None,
    ) -> Tensor:
        """The loss; fills `gradient`."""
        loss = rendered.new_empty(())
        tensors = {"rendered": rendered, "target": target, "gradient": gradient, "loss": loss}
        arrays = {name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None}
        height, width = rendered.shape[1:]
        with self.current():
            self.module.photometric(arrays, width, height, lambda_dssim, self.memory(), self.stream())
        return loss

    def adam_step(
        self: _CudaPass,
        parameters: Sequence["AdamParameter"],
        betas: tuple[float, float],
        eps: float,
        threads: int | None,
    ) -> None:
        """Step parameters, none of them empty."""
        native = []
        for each in parameters:
            tensors = (each.value, each.gradient, each.exp_avg, each.exp_avg_sq)
            visible = None if each.visible is None else each.visible.data_ptr()
            pointers = (tensor.data_ptr() for tensor in tensors)
            native.append((*pointers, visible, *_matrix(each.value), each.lr, each.step))
        with self.current():
            self.module.adam(native, *betas, eps, self.stream())


def _matrix(tensor: Tensor) -> tuple[int, int]:
    """Rows and their width, of a tensor [N, ...] that is not empty."""
    rows = tensor.shape[0] if tensor.ndim else 1
    return rows, tensor.numel() // rows
