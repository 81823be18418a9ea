#!/usr/bin/env python3
"""How fast the native rasterizer is, on a CPU or a GPU, beside gsplat and beside what the machine can do.

    python -m benchmarks.raster [--device auto] [--scenes cube-100k cube-1M MAP] [--sizes 640x480 1920x1080]

Times are medians in milliseconds over several copies of the input, so that a cache does not hold it. On a CPU
"x sgemm" is how much single-precision matrix product torch does in the same time in the same process, a
figure that carries over between machines; on a GPU gsplat 1.5.3 runs in the same process where it is
installed, and feature splatting is given as a share of the machine's roofline.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks import peer_gsplat
from benchmarks.machine import Roofline, describe, measure_roofline
from benchmarks.raster_scenes import BenchmarkScene, load_scene
from benchmarks.splatting_work import SplattingWork, count_work
from benchmarks.timing import Stopwatch
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json

ROOT = Path(__file__).resolve().parents[1]

MAP_GRADIENTS = ("means", "quaternions", "scales", "opacities", "colors", "features")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    outputs: tuple[str, ...]  # the outputs that the loss uses
    feature_scale: int | None = None  # features are rendered at 1/scale, None = not rendered
    gradients: tuple[str, ...] = MAP_GRADIENTS
    moves_geometry: bool = False  # the feature gradient reaches shapes and opacities, as gsplat's always does
    precision: str = "float32"  # of feature products on a GPU
    gpu_only: bool = False


CASES = (
    Case("rgb", ("rgb",)),
    Case("rgb + depth", ("rgb", "depth")),
    Case("rgb + 64 features at 1/8", ("rgb", "features"), 8),
    Case("rgb + 64 features, full size", ("rgb", "features"), 1),
    Case("rgb + 64 features, full size, tf32", ("rgb", "features"), 1, precision="tf32", gpu_only=True),
    Case("rgb + depth + 64 features", ("rgb", "depth", "features"), 1, moves_geometry=True, gpu_only=True),
    Case(
        "rgb + depth + 64 features, tf32", ("rgb", "depth", "features"), 1,
        moves_geometry=True, precision="tf32", gpu_only=True,
    ),
    Case("rgb, pose only", ("rgb",), None, ("cam_from_world",)),
    Case("rgb + depth + features at 1/8, pose only", ("rgb", "depth", "features"), 8, ("cam_from_world",)),
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What all rows of one table share."""

    scene: BenchmarkScene
    camera: Camera
    device: torch.device
    threads: int
    repeats: int
    roofline: Roofline


def settings_for(case: Case, setting: Setting) -> native.RasterizerSettings:
    camera, scale = setting.camera, case.feature_scale or 1
    wanted: dict[str, Any] = {"feature_precision": case.precision} if case.precision != "float32" else {}
    return native.RasterizerSettings(
        camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy,
        max(camera.width // scale, 1), max(camera.height // scale, 1),
        features_move_geometry=case.moves_geometry, threads=setting.threads, max_intersections=1 << 28,
        **wanted,
    )  # fmt: skip


def measure(case: Case, setting: Setting) -> dict[str, float]:
    """Forward and backward milliseconds of one case."""
    settings = settings_for(case, setting)

    def forward(inputs: dict[str, Tensor]) -> list[Tensor]:
        used = {name: tensor for name, tensor in inputs.items() if name != "features" or case.feature_scale}
        result = native.rasterize(**used, settings=settings)
        return [getattr(result, name) for name in case.outputs]

    return run_passes(forward, setting, case.gradients)


def run_passes(forward: Any, setting: Setting, gradients: tuple[str, ...]) -> dict[str, float]:
    """Medians of `forward(inputs) -> outputs` and of its backward pass, over rotating copies of the input."""
    watch = Stopwatch(setting.device)
    copies = setting.scene.copies(setting.device, gradients)
    for repeat in range(setting.repeats + 2):
        inputs = copies[repeat % len(copies)]
        leaves = [tensor for tensor in inputs.values() if tensor.requires_grad]
        with watch.lap("forward_ms"):
            outputs = forward(inputs)
        grads = [torch.full_like(output, 1e-3) for output in outputs]
        with watch.lap("backward_ms"):
            torch.autograd.grad(outputs, leaves, grads, allow_unused=True)
        del outputs
    medians = watch.medians(skip=2)
    return medians | {"total_ms": sum(medians.values())}


def measure_peer(case: Case, setting: Setting) -> dict[str, Any] | None:
    """The same of gsplat, the faster of its two modes; None where it has no such case."""
    if case.gradients != MAP_GRADIENTS or case.precision != "float32" or not peer_gsplat.available():
        return None
    modes = {}
    for packed in (False, True):

        def forward(inputs: dict[str, Tensor], packed: bool = packed) -> list[Tensor]:
            return peer_gsplat.render(inputs, setting.camera, case.outputs, case.feature_scale, packed)

        modes[packed] = run_passes(forward, setting, MAP_GRADIENTS)
    packed = min(modes, key=lambda mode: modes[mode]["total_ms"])
    return modes[packed] | {"packed": packed}


def speedups(ours: dict[str, float], peer: dict[str, Any] | None) -> dict[str, float]:
    if peer is None:
        return {}
    return {
        f"speedup_{name}": peer[f"{name}_ms"] / ours[f"{name}_ms"]
        for name in ("forward", "backward", "total")
    }


def feature_share(table: dict[str, Any], work: SplattingWork, setting: Setting) -> dict[str, Any]:
    """What feature splatting costs on top of colour, beside the least that the machine could take for it."""
    shares: dict[str, Any] = {}
    for name in ("rgb + 64 features, full size", "rgb + 64 features, full size, tf32"):
        if name not in table:
            continue
        row, colour = table[name]["ours"], table["rgb"]["ours"]
        for part in ("forward", "backward"):
            extra = row[f"{part}_ms"] - colour[f"{part}_ms"]
            floor = setting.roofline.floor_ms(work.flops, work.bytes)
            shares[f"{name}, {part}"] = {
                "extra_ms": extra, "floor_ms": floor, "share": floor / extra if extra > 0 else None,
                "share_of_whole_pass": floor / row[f"{part}_ms"],
            }  # fmt: skip
    return {"gflop": work.flops / 1e9, "megabytes": work.bytes / 1e6, "pairs": work.pairs, **shares}


def measure_table(setting: Setting, cases: list[Case]) -> dict[str, Any]:
    """Every case of one scene at one size, printed as it is measured."""
    camera, table = setting.camera, dict[str, Any]()
    print(f"\n{setting.scene.name}: {setting.scene.count} Gaussians, {camera.width}x{camera.height}")
    rate = "gsplat: forward   total" if setting.device.type == "cuda" else "GFLOP of sgemm in that time"
    print(f"{'':42}{'forward':>12}{'backward':>12}   {rate}")
    for case in cases:
        ours, peer = measure(case, setting), measure_peer(case, setting)
        gflops = setting.roofline.sgemm_gflops
        ours |= {key.replace("_ms", "_gemm_gflop"): gflops * value / 1e3 for key, value in ours.items()}
        table[case.name] = row = {"ours": ours, "peer": peer, **speedups(ours, peer)}
        beside = f"{ours['forward_gemm_gflop']:5.1f} {ours['backward_gemm_gflop']:5.1f}"
        if setting.device.type == "cuda":
            beside = "" if peer is None else f"{row['speedup_forward']:.2f}x {row['speedup_total']:.2f}x"
        print(f"{case.name:42}{ours['forward_ms']:9.2f} ms{ours['backward_ms']:9.2f} ms   {beside}")
    return table


def agreement(setting: Setting) -> dict[str, float]:
    """How far our colours are from gsplat's: the two must have done the same work to be compared."""
    inputs = setting.scene.copies(setting.device, ())[0]
    with torch.no_grad():
        ours = native.rasterize(
            **{name: tensor for name, tensor in inputs.items() if name != "features"},
            settings=settings_for(CASES[0], setting),
        ).rgb
        peer = peer_gsplat.render(inputs, setting.camera, ("rgb",), None, packed=False)[0]
    difference = (ours - peer.permute(2, 0, 1)).abs()
    return {"mean_difference": difference.mean().item(), "largest_difference": difference.max().item()}


def measure_scene(setting: Setting, cases: list[Case]) -> dict[str, Any]:
    camera = setting.camera
    result: dict[str, Any] = {
        "scene": setting.scene.name, "gaussians": setting.scene.count,
        "size": f"{camera.width}x{camera.height}", "cases": measure_table(setting, cases),
    }  # fmt: skip
    if setting.device.type == "cuda":
        work = count_work(setting.scene.copies(setting.device, ())[0], camera)
        result["feature_splatting"] = feature_share(result["cases"], work, setting)
        for name, share in result["feature_splatting"].items():
            if isinstance(share, dict):
                print(f"roofline   {name}: floor {share['floor_ms']:.3f} ms, share {share['share']}")
        if peer_gsplat.available():
            result["agreement_with_gsplat"] = agreement(setting)
    return result


def parse_size(text: str) -> tuple[int, int]:
    try:
        width, height = map(int, text.split("x"))
    except ValueError:
        raise GSplatLocError(f"expected a size like 640x480, found '{text}'") from None
    return width, height


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--scenes", nargs="+", help="cube-N (100k, 1M) or folders of maps")
    parser.add_argument("--sizes", nargs="+", help="WIDTHxHEIGHT; default 640x480, on a GPU 1920x1080 too")
    parser.add_argument("--cases", nargs="+", help="names of rows; default: all that the device has")
    parser.add_argument("--gaussians", type=int, help="short for --scenes cube-N")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the table here")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    device = rendering_device(options.device)
    torch.set_num_threads(options.threads)
    on_gpu = device.type == "cuda"
    scenes = [f"cube-{options.gaussians}"] if options.gaussians else options.scenes
    scenes = scenes or (["cube-100k", "cube-1M"] if on_gpu else ["cube-100k"])
    sizes = options.sizes or (["640x480", "1920x1080"] if on_gpu else ["640x480"])
    cases = [case for case in CASES if (on_gpu or not case.gpu_only)]
    cases = [case for case in cases if options.cases is None or case.name in options.cases]
    roofline = measure_roofline(device, options.repeats)
    machine = describe(device) | {"isa": native.isa(), "threads": options.threads}
    print(f"{machine['name']}, {options.threads} threads, {native.isa()}; {roofline}")
    if on_gpu and not peer_gsplat.available():
        print(f"no peer: {peer_gsplat.problem()}")
    results = []
    for name in scenes:
        for width, height in map(parse_size, sizes):
            scene, camera = load_scene(name, width, height)
            setting = Setting(scene, camera, device, options.threads, options.repeats, roofline)
            results.append(measure_scene(setting, cases))
    if options.json:
        peer = peer_gsplat.problem() or "gsplat 1.5.3"
        write_json(
            options.json, {"machine": machine, "peer": peer, "roofline": vars(roofline), "results": results}
        )


if __name__ == "__main__":
    run_script(main)
