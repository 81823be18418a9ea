"""The rasterizer as a torch operation: Python allocates the arrays, the extension fills them."""

from typing import Any

import torch
from torch import Tensor

from gsplatloc_kernels.backends import Backend
from gsplatloc_kernels.memory import comes_fresh, zeros_like

_INPUTS = (
    "means",
    "quaternions",
    "scales",
    "covariances",
    "opacities",
    "sh",
    "colors",
    "features",
    "cam_from_world",
    "screen_offsets",
)


class RasterizeFunction(torch.autograd.Function):
    """backend, settings, the tensors of `_INPUTS` (checked) -> rgb, features, depth, alpha, radii, counts."""

    @staticmethod
    def forward(
        ctx: Any, backend: Backend, settings: dict[str, Any], *tensors: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        inputs = _plain(tensors)
        outputs = _allocate(settings, inputs)
        if backend.counts_later and settings["intersection_capacity"] is not None:
            outputs["counts"] = outputs["rgb"].new_empty(5, dtype=torch.int64)
        state = backend.forward(settings, inputs, outputs)
        rgb, features, depth, alpha = (outputs[name] for name in ("rgb", "features", "depth", "alpha"))
        ctx.backend, ctx.settings, ctx.state = backend, settings, state
        kept = features if settings["features_move_geometry"] else None
        ctx.save_for_backward(*tensors, rgb, kept, depth, alpha)
        ctx.kinds = _kinds(*tensors, rgb, kept, depth, alpha)
        integers = [outputs["radii"], *([outputs["counts"]] if "counts" in outputs else [])]
        ctx.mark_non_differentiable(*integers)
        ctx.set_materialize_grads(False)
        return rgb, features, depth, alpha, outputs["radii"], outputs.get("counts")

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if _kinds(*ctx.saved_tensors) != ctx.kinds:
            raise RuntimeError(
                "expected the tensors of the forward pass, found one of another shape or type: do not assign"
                " to .data before the backward pass"
            )
        *tensors, rgb, features, depth, alpha = ctx.saved_tensors
        inputs = _plain(tensors)
        outputs = {"rgb": rgb, "features": features, "depth": depth, "alpha": alpha}
        d_outputs = {
            name: _native(grad) for name, grad in zip(outputs, grads, strict=False) if grad is not None
        }
        # Items 0 and 1 of needs_input_grad belong to the backend and the settings.
        wanted = dict(zip(_INPUTS, ctx.needs_input_grad[2:], strict=True))
        written = {"features"} if ctx.backend.writes_features and "features" in d_outputs else set()
        d_inputs = {name: _gradient_like(inputs[name], name in written) for name in _INPUTS if wanted[name]}
        if wanted["cam_from_world"]:
            d_inputs["cam_from_world"] = rgb.new_zeros(12)
        ctx.backend.backward(ctx.state, ctx.settings, inputs, _plain_dict(outputs), d_outputs, d_inputs)
        if wanted["cam_from_world"]:
            d_inputs["cam_from_world"] = _pose_matrix(d_inputs["cam_from_world"])
        return None, None, *(d_inputs.get(name) for name in _INPUTS)


def _kinds(*tensors: Tensor | None) -> list[object]:
    """Shape and type of every tensor."""
    return [None if tensor is None else (tensor.shape, tensor.dtype, tensor.device) for tensor in tensors]


def _plain(tensors: tuple[Tensor | None, ...] | list[Tensor | None]) -> dict[str, Any]:
    """Tensors by name, as the extensions want them."""
    return {
        name: None if tensor is None else _native(tensor)
        for name, tensor in zip(_INPUTS, tensors, strict=True)
    }


def _native(tensor: Tensor) -> Tensor:
    """Without autograd, contiguous and aligned: kernels read up to 16 bytes at once."""
    plain = tensor.detach().contiguous()
    return plain if plain.data_ptr() % 16 == 0 else plain.clone()


def _plain_dict(tensors: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if tensor is None else tensor.detach() for name, tensor in tensors.items()}


def _gradient_like(tensor: Tensor, written: bool) -> Tensor:
    """Memory for a gradient: zeros, or anything where all of it is `written` and zeros would cost time."""
    return torch.empty_like(tensor) if written and not comes_fresh(tensor) else zeros_like(tensor)


def _allocate(settings: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """Uninitialised outputs; the extension writes every pixel of them."""
    means, features = inputs["means"], inputs["features"]
    height, width = settings["height"], settings["width"]
    shape = (settings["channels"], settings["feature_height"], settings["feature_width"])
    # Without Gaussians an array may have no address, so the extension cannot tell that features are wanted.
    allocate = means.new_empty if settings["count"] else means.new_zeros
    return {
        "rgb": allocate(3, height, width),
        "features": None if features is None else allocate(shape),
        "depth": allocate(height, width),
        "alpha": allocate(height, width),
        "radii": means.new_empty(settings["count"], dtype=torch.int32),
    }


def _pose_matrix(gradient: Tensor) -> Tensor:
    """Twelve derivatives, rotation row-major then translation -> [4, 4] with a zero last row."""
    matrix = gradient.new_zeros(4, 4)
    matrix[:3, :3] = gradient[:9].reshape(3, 3)
    matrix[:3, 3] = gradient[9:]
    return matrix
