"""Small random scenes, and both rasterizers behind one signature."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

import gsplatloc_kernels
from gsplatloc.gaussian_renderer import native, reference
from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult, Splats
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

# Off-centre principal point and fx != fy everywhere; sides that are no multiple of a tile.
CAMERA = Camera(width=45, height=37, fx=50.0, fy=61.0, cx=27.3, cy=14.2)

Inputs = dict[str, Tensor]


def make_inputs(count: int, channels: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Gaussians of a few pixels, in the view frustum and around it, and a pose that is not trivial."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    spread = torch.tensor([2.4, 2.0, 3.0], dtype=torch.float64)
    pose = se3.se3_exp(torch.tensor([0.1, -0.2, 0.3, 0.2, -0.1, 0.15], dtype=torch.float64))
    inputs = {
        "means": (uniform(count, 3) - 0.5) * spread + torch.tensor([0.1, 0.3, 2.2], dtype=torch.float64),
        "quaternions": uniform(count, 4) * 2 - 1,
        "scales": uniform(count, 3) * 0.15 + 0.01,
        "opacities": uniform(count) * 0.9 + 0.05,
        "sh": (uniform(count, 16, 3) - 0.5) * 0.6,
        "features": uniform(count, channels) - 0.5,
        "cam_from_world": pose,
        "screen_offsets": (uniform(count, 2) - 0.5),
    }
    return {name: tensor.to(dtype) for name, tensor in inputs.items()}


def splats_of(inputs: Inputs) -> Splats:
    names = ("means", "opacities", "quaternions", "scales", "covariances", "sh", "colors", "features")
    return Splats(**{name: inputs[name] for name in names if name in inputs})


def render_native(
    inputs: Inputs, options: RenderOptions | None = None, camera: Camera = CAMERA
) -> RenderResult:
    options = options or RenderOptions()
    offsets = inputs.get("screen_offsets")
    return native.rasterize(splats_of(inputs), camera, inputs["cam_from_world"], options, offsets)


def render_reference(
    inputs: Inputs, options: RenderOptions | None = None, camera: Camera = CAMERA
) -> RenderResult:
    options = options or RenderOptions()
    offsets = inputs.get("screen_offsets")
    return reference.rasterize(splats_of(inputs), camera, inputs["cam_from_world"], options, offsets)


def weighted_sum(result: RenderResult, seed: int = 0) -> Tensor:
    """A scalar in which every output pixel has its own random weight."""
    generator = torch.Generator().manual_seed(seed)
    total = result.rgb.new_zeros(())
    for image in (result.rgb, result.depth, result.alpha, result.features):
        if image is not None:
            weight = torch.rand(image.shape, generator=generator, dtype=torch.float64) - 0.4
            total = total + (image * weight.to(image)).sum()
    return total


def gradients(render: Callable[..., RenderResult], inputs: Inputs, *args: object) -> Inputs:
    """Gradients of `weighted_sum` by every input."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    weighted_sum(render(leaves, *args)).backward()
    return {
        name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for name, leaf in leaves.items()
    }


def with_options(**changes: object) -> RenderOptions:
    return replace(RenderOptions(), **changes)  # type: ignore[arg-type]


def available_isas() -> list[str]:
    """The instruction sets of this processor, as GSPLAT_ISA names them."""
    names = ["portable", "avx2", "avx512"]
    return names[: names.index(gsplatloc_kernels.isa()) + 1]
