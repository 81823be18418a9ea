"""Adam over the parameters of Gaussians, all of them or only the visible ones, in one pass over memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc_kernels import backends
from gsplatloc_kernels.checks import check_like


@dataclass(frozen=True)
class AdamParameter:
    """One parameter and its moments, contiguous tensors of one shape [N, ...], changed in place."""

    value: Tensor
    gradient: Tensor  # is read only
    exp_avg: Tensor  # running mean of the gradient
    exp_avg_sq: Tensor  # running mean of its square
    lr: float  # learning rate
    step: int  # number of this step, from 1: it corrects the bias of moments that started at zero
    visible: Tensor | None = None  # [N] bool, rows that take part; None = all


def adam_step(
    parameters: Sequence[AdamParameter],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-15,
    threads: int | None = None,
) -> None:
    """Step parameters by Adam (Kingma, Ba 2015), as torch.optim.Adam does; invisible rows are not touched.

    With a visibility mask neither the values nor the moments of other rows change ("sparse Adam", Mallick et
    al., "Taming 3DGS", 2024): they keep their momentum until they are seen again. All float32 on one GPU, or
    all float32 or all float64 on the CPU. `threads`: of the CPU, None = torch's number; the result does not
    depend on it.

    Raises TypeError and ValueError for tensors that do not fit, ImportError for tensors on a GPU where the
    package was built without CUDA.
    """
    for parameter in parameters:
        _check(parameter, parameters[0].value)
    due = [parameter for parameter in parameters if parameter.value.numel()]
    if due:
        backends.backend_for(due[0].value.device).adam_step(due, betas, eps, threads)


def _check(parameter: AdamParameter, first: Tensor) -> None:
    check_like("value", parameter.value, "the first value", first)
    shape = list(parameter.value.shape)
    for name in ("value", "gradient", "exp_avg", "exp_avg_sq"):
        tensor = getattr(parameter, name)
        check_like(name, tensor, "the first value", first)
        if list(tensor.shape) != shape or not tensor.is_contiguous():
            raise ValueError(
                f"expected {name} to be a contiguous tensor of shape {shape}, found one of shape"
                f" {list(tensor.shape)} and strides {list(tensor.stride())}"
            )
    if parameter.step < 1:
        raise ValueError(f"expected a step of 1 or more, found {parameter.step}")
    visible = parameter.visible
    if visible is None:
        return
    if not isinstance(visible, Tensor):
        raise TypeError(f"expected visible to be a torch.Tensor, found {type(visible).__name__}")
    if visible.dtype != torch.bool or list(visible.shape) != shape[:1] or not visible.is_contiguous():
        raise ValueError(
            f"expected visible to be a contiguous tensor of shape {shape[:1]} and type bool,"
            f" found {visible.dtype} of shape {list(visible.shape)}"
        )
    if visible.device != first.device:
        raise ValueError(f"expected visible on {first.device}, found {visible.device}: move it with .to()")
