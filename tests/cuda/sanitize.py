"""A few small forward and backward passes of every kind, for compute-sanitizer.

    compute-sanitizer --tool memcheck python -m tests.cuda.sanitize [--device cuda]

Run it with PYTORCH_NO_CUDA_MEMORY_CACHING=1: torch's caching allocator hides overruns within its blocks.
Sizes are small, because a sanitizer makes kernels a hundred times slower, and no multiples of a tile's,
because kernels write beyond their arrays mostly at borders.
"""

from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks.performance.rasterizer import cube
from benchmarks.performance.training import cube_map
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.mapping import losses
from gsplatloc.mapping.optimizer import MapOptimizer
from gsplatloc.mapping.options import OptimizerOptions


@dataclass(frozen=True)
class Pass:
    """One rendering and its gradients."""

    gaussians: int
    width: int
    height: int
    channels: int
    feature_size: tuple[int, int]  # (width, height)
    moves_geometry: bool = False
    degree: int | None = None  # of spherical harmonics; None = colours
    antialiased: bool = False
    precision: str = "float32"


PASSES = (
    Pass(1, 1, 1, 1, (1, 1)),
    Pass(257, 45, 37, 3, (45, 37), moves_geometry=True),
    Pass(257, 45, 37, 64, (5, 4), degree=3),
    Pass(1000, 130, 70, 64, (130, 70), moves_geometry=True, antialiased=True),
    Pass(1000, 130, 70, 100, (33, 17), moves_geometry=True, degree=1),
    Pass(1000, 130, 70, 64, (130, 70), precision="tf32"),
    Pass(5000, 320, 200, 17, (40, 25)),
)


def render(case: Pass, device: torch.device) -> float:
    """Render forward and backward; the sum of all absolute gradients, so that every one is read."""
    inputs: dict[str, Tensor] = cube(case.gaussians)
    generator = torch.Generator().manual_seed(1)
    inputs["features"] = torch.randn(case.gaussians, case.channels, generator=generator)
    inputs["scales"] *= 4  # lists longer than a block
    if case.degree is not None:
        del inputs["colors"]
        inputs["sh"] = torch.randn(case.gaussians, (case.degree + 1) ** 2, 3, generator=generator)
    leaves = {name: tensor.to(device).requires_grad_() for name, tensor in inputs.items()}
    wanted = {"feature_precision": case.precision} if case.precision != "float32" else {}
    settings = native.RasterizerSettings(
        case.width, case.height, 0.8 * case.width, 0.9 * case.width, 0.4 * case.width, 0.6 * case.height,
        *case.feature_size, features_move_geometry=case.moves_geometry, antialiased=case.antialiased,
        sh_degree=case.degree or 0, **wanted,
    )  # fmt: skip
    result = native.rasterize(**leaves, settings=settings)
    images = [
        image for image in (result.rgb, result.depth, result.alpha, result.features) if image is not None
    ]
    torch.autograd.backward([image.square().sum() for image in images])
    gradients = [leaf.grad for leaf in leaves.values() if leaf.grad is not None]
    return float(sum(gradient.abs().sum() for gradient in gradients))


def step(device: torch.device) -> float:
    """The photometric loss of an image of odd size, and an optimiser's step."""
    generator = torch.Generator().manual_seed(2)
    rendered = torch.rand(3, 61, 83, generator=generator).to(device).requires_grad_()
    target = torch.rand(3, 61, 83, generator=generator).to(device)
    losses.photometric_loss(rendered, target, 0.2).backward()
    optimizer = MapOptimizer(cube_map(257).to(device), OptimizerOptions(), 1.0)
    for iteration in (1, 2):
        parameters = optimizer.gaussians()
        sum(tensor.square().sum() for tensor in parameters.parameters().values()).backward()
        optimizer.step(iteration)
    assert rendered.grad is not None
    return float(rendered.grad.abs().sum() + optimizer.gaussians().means.detach().abs().sum())


@dataclass(frozen=True)
class SanitizeArguments:
    """Where to run."""

    device: str = "cuda"  # cuda, cuda:N or cpu


def main() -> None:
    chosen = rendering_device(tyro.cli(SanitizeArguments, description=__doc__).device)
    for case in PASSES:
        print(f"{case}: {render(case, chosen):.6g}")
    print(f"loss and optimizer: {step(chosen):.6g}")
    if chosen.type == "cuda":
        torch.cuda.synchronize(chosen)
    print("all passes ran")


if __name__ == "__main__":
    main()
