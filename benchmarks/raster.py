"""How fast the native rasterizer is: scene "cube-100k", every kind of output, forward and backward.

    python benchmarks/raster.py [--threads 2] [--repeats 7] [--json raster.json]

Times are medians in milliseconds. "x sgemm" is how much single-precision matrix product torch does in the
same time in the same process: a figure that carries over between machines.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import diff_gaussian_rasterization as native
import torch
from torch import Tensor

from utils.io import write_json

_GEMM_SIZE = 1024
_CHANNELS = 64


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    outputs: tuple[str, ...]  # the outputs that the loss uses
    feature_scale: int | None = None  # features are rendered at 1/scale, None = not rendered
    gradients: tuple[str, ...] = ("means", "quaternions", "scales", "opacities", "colors", "features")


CASES = (
    Case("rgb", ("rgb",)),
    Case("rgb + depth", ("rgb", "depth")),
    Case("rgb + 64 features at 1/8", ("rgb", "features"), 8),
    Case("rgb + 64 features, full size", ("rgb", "features"), 1),
    Case("rgb, pose only", ("rgb",), None, ("cam_from_world",)),
    Case("rgb + depth + features at 1/8, pose only", ("rgb", "depth", "features"), 8, ("cam_from_world",)),
)


def cube(count: int) -> dict[str, Tensor]:
    """Scene "cube": means in [-1, 1]^3 + (0, 0, 3), scales in [0.005, 0.02], random everything else."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return {
        "means": uniform(count, 3) * 2 - 1 + torch.tensor([0.0, 0.0, 3.0]),
        "quaternions": torch.randn(count, 4, generator=generator),
        "scales": uniform(count, 3) * 0.015 + 0.005,
        "opacities": uniform(count),
        "colors": uniform(count, 3),
        "features": torch.randn(count, _CHANNELS, generator=generator),
        "cam_from_world": torch.eye(4),
    }


def timed(repeats: int, action: Callable[[], object]) -> float:
    """Median milliseconds, after one call that does not count."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def gemm_gflops(repeats: int) -> float:
    """What torch.matmul reaches here, in 10^9 operations per second."""
    a = torch.randn(_GEMM_SIZE, _GEMM_SIZE)
    return 2 * _GEMM_SIZE**3 / (timed(repeats, lambda: a @ a) * 1e6)


def settings_for(case: Case, threads: int) -> native.RasterizerSettings:
    width, height, scale = 640, 480, case.feature_scale or 1
    return native.RasterizerSettings(
        width, height, 500.0, 500.0, width / 2, height / 2, width // scale, height // scale, threads=threads
    )


def measure(case: Case, inputs: dict[str, Tensor], threads: int, repeats: int) -> dict[str, float]:
    """Forward and backward milliseconds of one case."""
    leaves = {
        name: tensor.clone().requires_grad_(name in case.gradients)
        for name, tensor in inputs.items()
        if name != "features" or case.feature_scale
    }
    settings = settings_for(case, threads)

    def forward() -> native.Rasterization:
        return native.rasterize(**leaves, settings=settings)

    forward_times, backward_times = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = forward()
        middle = time.perf_counter()
        outputs = [getattr(result, name) for name in case.outputs]
        grads = [torch.full_like(output, 1e-3) for output in outputs]
        before = time.perf_counter()
        wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]
        torch.autograd.grad(outputs, wanted, grads, allow_unused=True)
        backward_times.append((time.perf_counter() - before) * 1e3)
        forward_times.append((middle - start) * 1e3)
    return {"forward_ms": median(forward_times[1:]), "backward_ms": median(backward_times[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the table here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    inputs = cube(options.gaussians)
    gflops = gemm_gflops(options.repeats)
    print(f"{options.gaussians} Gaussians, 640x480, {options.threads} threads, {native.isa()}; "
          f"sgemm {gflops:.0f} GFLOP/s")  # fmt: skip
    print(f"{'':42}{'forward':>12}{'backward':>12}   GFLOP of sgemm in that time")
    table = {}
    for case in CASES:
        row = measure(case, inputs, options.threads, options.repeats)
        row |= {key.replace("_ms", "_gemm_gflop"): gflops * row[key] / 1e3 for key in list(row)}
        table[case.name] = row
        print(f"{case.name:42}{row['forward_ms']:9.1f} ms{row['backward_ms']:9.1f} ms"
              f"   {row['forward_gemm_gflop']:5.1f} {row['backward_gemm_gflop']:5.1f}")  # fmt: skip
    if options.json:
        write_json(options.json, {"isa": native.isa(), "sgemm_gflops": gflops, "threads": options.threads,
                                  "gaussians": options.gaussians, "cases": table})  # fmt: skip


if __name__ == "__main__":
    main()
