"""Checks that the tensors of a checkpoint fit together, before a run goes on from them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians

# What loading a damaged state raises; it depends on which part is missing, or of another shape or type.
STATE_ERRORS = (KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError)


def check_state(gaussians: Gaussians, tensors: Mapping[str, Tensor], views: int, sh_degree: int) -> None:
    """Raise ValueError if `tensors`, a whole state by dotted names, is not one of `gaussians` and `views`."""
    count = len(gaussians)
    shapes = {"means": (3,), "quaternions": (4,), "log_scales": (3,), "opacity_logits": (),
              "sh": ((sh_degree + 1) ** 2, 3), "features": gaussians.features.shape[1:2]}  # fmt: skip
    for name, shape in shapes.items():
        tensor = getattr(gaussians, name)
        if tensor.shape != (count, *shape) or tensor.dtype != torch.float32:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} and {tensor.dtype}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} that are not finite")
    for name, tensor in tensors.items():
        group, _, part = name.partition(".")
        if group == "densification" and tensor.shape[:1] != (count,):
            raise ValueError(f"{part} of shape {tuple(tensor.shape)} for {count} Gaussians")
        if part.endswith((".exp_avg", ".exp_avg_sq")) and not bool(tensor.isfinite().all()):
            raise ValueError(f"{part} that is not finite")
    queue = tensors["order.queue"]
    if queue.ndim != 1 or queue.dtype != torch.int64 or bool(((queue < 0) | (queue >= views)).any()):
        raise ValueError(f"an order of other views than {views}")
