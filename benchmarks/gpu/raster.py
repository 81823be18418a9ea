"""How fast the rasterizer is on a GPU, beside gsplat in the same process and beside what the machine can do.

Times are medians in milliseconds over several copies of the input, so that a cache does not hold it. Feature
splatting is given as a share of the machine's roofline. On a CPU it runs too, as a check of this script.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks.performance.rasterizer import (
    MAP_GRADIENTS,
    Case,
    RasterScene,
    backward,
    load_scene,
    rasterize,
    settings_for,
)
from gsplatloc.gaussian_renderer import RenderOptions, reference
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.gaussian_renderer.options import Splats
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from gsplatloc.utils.machine import describe

_ALL = ("rgb", "depth", "features")
CASES = (
    Case("rgb", ("rgb",)),
    Case("rgb + depth", ("rgb", "depth")),
    Case("rgb + 64 features at 1/8", ("rgb", "features"), 8),
    Case("rgb + 64 features, full size", ("rgb", "features"), 1),
    Case("rgb + 64 features, full size, tf32", ("rgb", "features"), 1, precision="tf32"),
    Case("rgb + depth + 64 features", _ALL, 1, moves_geometry=True),
    Case("rgb + depth + 64 features, tf32", _ALL, 1, moves_geometry=True, precision="tf32"),
    Case("rgb, pose only", ("rgb",), None, ("cam_from_world",)),
    Case("rgb + depth + features at 1/8, pose only", _ALL, 8, ("cam_from_world",)),
)
_COPIES_BYTES, _MOST_COPIES = 200_000_000, 8  # of the inputs: together more than the cache of any GPU
_MATRIX = {"cpu": 1024, "cuda": 8192}  # size of square matrices
_COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}  # well beyond any cache
_WARM_UP = 2
_GSPLAT = "gsplat==1.5.3"  # the peer

TILE = 16  # pixels
_CHUNK = 16  # list entries that are evaluated together
_SHAPE_BYTES, _ENTRY_BYTES = 24, 4

Milliseconds = dict[str, float]


@dataclass(frozen=True)
class RasterArguments:
    """What is rendered."""

    device: str = "auto"  # auto, cpu, cuda or cuda:N
    scenes: tuple[str, ...] = ("cube-100k", "cube-1M")  # cube-N, or folders of maps
    sizes: tuple[str, ...] = ("640x480", "1920x1080")  # WIDTHxHEIGHT
    repeats: int = 7  # measurements of each time
    json: Path | None = None  # file for the figures


@dataclass(frozen=True)
class Roofline:
    """The ceilings of any program on a machine."""

    copy_gb_per_s: float  # of memory, read and written bytes counted
    sgemm_gflops: float  # torch.matmul in float32
    tf32_gflops: float | None = None  # likewise on tensor cores; None on a CPU

    def floor_ms(self, flops: float, moved_bytes: float) -> float:
        """The least time for so many operations and bytes."""
        rate = self.tf32_gflops or self.sgemm_gflops
        return max(flops / (rate * 1e6), moved_bytes / (self.copy_gb_per_s * 1e6))


@dataclass(frozen=True)
class Setting:
    """What all rows of one table share."""

    scene: RasterScene
    device: torch.device
    repeats: int
    roofline: Roofline

    def copies(self, case: Case) -> list[dict[str, Tensor]]:
        """Inputs of a case, in so many copies that a cache cannot hold those that come next."""
        size = sum(tensor.nbytes for tensor in self.scene.inputs.values())
        number = min(_COPIES_BYTES // size + 2, _MOST_COPIES) if self.device.type == "cuda" else 1
        return [self.scene.leaves(case, self.device) for _ in range(number)]


def main() -> None:
    arguments = tyro.cli(RasterArguments, description=__doc__)
    device = rendering_device(arguments.device)
    roofline = measure_roofline(device, arguments.repeats)
    machine, peer = describe(device) | {"isa": native.isa()}, peer_problem()
    print(f"{machine['name']}, {roofline}; {f'without gsplat: {peer}' if peer else 'with gsplat'}")
    results = []
    for name in arguments.scenes:
        for width, height in map(parse_size, arguments.sizes):
            scene = load_scene(name, width, height)
            results.append(measure_scene(Setting(scene, device, arguments.repeats, roofline)))
    if arguments.json:
        peer = peer or _GSPLAT
        figures = {"machine": machine, "peer": peer, "roofline": asdict(roofline), "results": results}
        write_json(arguments.json, figures)


def parse_size(text: str) -> tuple[int, int]:
    try:
        width, height = map(int, text.split("x"))
    except ValueError:
        raise GSplatLocError(f"expected a size like 640x480, found '{text}'") from None
    return width, height


@contextmanager
def stopwatch(device: torch.device, laps: list[float]) -> Iterator[None]:
    """Appends the milliseconds of its body; on a GPU between two of its events, the host's waits included."""
    if device.type != "cuda":
        start = time.perf_counter()
        yield
        laps.append((time.perf_counter() - start) * 1e3)
        return
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    yield
    end.record()
    torch.cuda.synchronize(device)
    laps.append(begin.elapsed_time(end))


def median_ms(device: torch.device, repeats: int, action: Callable[[], object]) -> float:
    laps: list[float] = []
    for _ in range(repeats + _WARM_UP):
        with stopwatch(device, laps):
            action()
    return median(laps[_WARM_UP:])


def measure_roofline(device: torch.device, repeats: int) -> Roofline:
    """Measure all ceilings on random numbers: a GPU computes faster on zeros."""
    size = _MATRIX[device.type]
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    source = torch.rand(_COPIED_BYTES[device.type] // 8, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / (median_ms(device, repeats, lambda: target.copy_(source)) * 1e6)

    def rate(tf32: bool) -> float:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            return 2 * size**3 / (median_ms(device, repeats, lambda: a @ b) * 1e6)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return Roofline(copy, rate(False), rate(True) if device.type == "cuda" else None)


def run_passes(
    setting: Setting, case: Case, forward: Callable[[dict[str, Tensor]], list[Tensor]]
) -> Milliseconds:
    """Median milliseconds of `forward` and of its backward pass, over rotating copies of the input."""
    copies, laps = setting.copies(case), ([], [])
    for repeat in range(setting.repeats + _WARM_UP):
        inputs = copies[repeat % len(copies)]
        with stopwatch(setting.device, laps[0]):
            outputs = forward(inputs)
        grads = [torch.full_like(output, 1e-3) for output in outputs]
        with stopwatch(setting.device, laps[1]):
            backward(case, inputs, outputs, grads)
        del outputs
    times = [median(found[_WARM_UP:]) for found in laps]
    return {"forward_ms": times[0], "backward_ms": times[1], "total_ms": sum(times)}


def measure_ours(setting: Setting, case: Case) -> Milliseconds:
    settings = settings_for(case, setting.scene.camera, torch.get_num_threads())
    return run_passes(setting, case, lambda inputs: rasterize(case, inputs, settings))


def measure_peer(setting: Setting, case: Case) -> dict[str, Any] | None:
    """The same of gsplat, the faster of its two modes; None where it has no such case."""
    if case.gradients != MAP_GRADIENTS or case.precision != "float32" or peer_problem():
        return None

    def render(inputs: dict[str, Tensor], packed: bool) -> list[Tensor]:
        return peer_render(inputs, setting.scene.camera, case.outputs, case.feature_scale, packed)

    modes = [
        run_passes(setting, case, lambda inputs, packed=packed: render(inputs, packed)) | {"packed": packed}
        for packed in (False, True)
    ]
    return min(modes, key=lambda mode: mode["total_ms"])


def measure_scene(setting: Setting) -> dict[str, Any]:
    """Every case of one scene at one size, printed as it is measured."""
    on_gpu, table = setting.device.type == "cuda", dict[str, Any]()
    print(f"\n{setting.scene.title}, {len(setting.scene.inputs['means'])} Gaussians")
    for case in CASES:
        if case.precision != "float32" and not on_gpu:
            continue
        ours, peer = measure_ours(setting, case), measure_peer(setting, case)
        shared = () if peer is None else ours
        faster = {f"speedup_{key.removesuffix('_ms')}": peer[key] / ours[key] for key in shared}
        table[case.name] = {"ours": ours, "peer": peer, **faster}
        beside = (
            f"gsplat / ours {faster['speedup_forward']:.2f} {faster['speedup_total']:.2f}" if faster else ""
        )
        print(
            f"{case.name:42}{ours['forward_ms']:9.2f} ms{ours['backward_ms']:9.2f} ms   {beside}", flush=True
        )
    camera = setting.scene.camera
    result = {"scene": setting.scene.name, "size": f"{camera.width}x{camera.height}", "cases": table}
    result["feature_splatting"] = feature_share(setting, table)
    if not peer_problem():
        result["agreement_with_gsplat"] = agreement(setting)
    return result


def feature_share(setting: Setting, table: dict[str, Any]) -> dict[str, Any]:
    """What feature splatting costs on top of colour, beside the least that the machine could take for it."""
    inputs = {name: tensor.to(setting.device) for name, tensor in setting.scene.inputs.items()}
    work = count_work(inputs, setting.scene.camera)
    floor, shares = setting.roofline.floor_ms(work.flops, work.bytes), dict[str, Any]()
    for name in ("rgb + 64 features, full size", "rgb + 64 features, full size, tf32"):
        for part in ("forward", "backward") if name in table else ():
            whole = table[name]["ours"][f"{part}_ms"]
            extra = whole - table["rgb"]["ours"][f"{part}_ms"]
            share = floor / extra if extra > 0 else None
            shares[f"{name}, {part}"] = {"extra_ms": extra, "floor_ms": floor, "share": share,
                                         "share_of_whole_pass": floor / whole}  # fmt: skip
            print(f"roofline   {name}, {part}: least {floor:.3f} ms, share {share}")
    return {"gflop": work.flops / 1e9, "megabytes": work.bytes / 1e6, "pairs": work.pairs, **shares}


@torch.no_grad()
def agreement(setting: Setting) -> dict[str, float]:
    """Differences of our colours from gsplat's: only the same work can be compared."""
    case, camera = CASES[0], setting.scene.camera
    inputs = setting.scene.leaves(case, setting.device)
    (ours,) = rasterize(case, inputs, settings_for(case, camera, torch.get_num_threads()))
    peer = peer_render(inputs, camera, ("rgb",), None, packed=False)[0]
    difference = (ours - peer.permute(2, 0, 1)).abs()
    return {"mean_difference": difference.mean().item(), "largest_difference": difference.max().item()}


@dataclass(frozen=True)
class SplattingWork:
    """The operations and bytes of splatting features, forward or backward, counted from the scene alone.

    A tile of 16 x 16 pixels with the Gaussians that reach it, nearest first, until every pixel is opaque, is
    a matrix product W [256, K] times F [K, C]: 2 * 256 * K * C operations. Bytes are the fewest that must
    move: the descriptors of every Gaussian that some tile uses, its shape and its entry in the tile's list,
    each read once, and the feature map written once. The backward pass with respect to the features, W^T
    times the gradient, is as much again.
    """

    pairs: int  # (tile, Gaussian) that are evaluated before the tile is opaque
    gaussians: int  # different ones among them
    flops: float
    bytes: float


@torch.no_grad()
def count_work(inputs: dict[str, Tensor], camera: Camera) -> SplattingWork:
    """Work of splatting `inputs["features"]` [N, C] at the size of `camera`."""
    splats = Splats(**{name: inputs[name] for name in ("means", "opacities", "quaternions", "scales")})
    options, size = RenderOptions(), (camera.width, camera.height)
    projected = reference.project(splats, camera, inputs["cam_from_world"], options)
    prints = reference.footprints(projected, splats.opacities, size, (1.0, 1.0), options)
    order = projected.depths.argsort(stable=True)
    order = order[prints.radii[order] > 0]  # visible Gaussians, nearest first
    used = torch.zeros(len(prints.means), dtype=torch.bool, device=order.device)
    pairs = 0
    for top in range(0, camera.height, TILE):
        band = order[_overlaps(prints, order, 1, top)]
        for left in range(0, camera.width, TILE):
            tile = band[_overlaps(prints, band, 0, left)]
            count, entries = _until_opaque(prints, tile, left, top)
            pairs += count
            used[entries] = True
    channels, different = inputs["features"].shape[1], int(used.sum())
    moved = different * (4 * channels + _SHAPE_BYTES) + pairs * _ENTRY_BYTES
    moved += 4 * channels * camera.width * camera.height
    return SplattingWork(pairs, different, 2.0 * TILE * TILE * pairs * channels, float(moved))


def _overlaps(prints: reference.Footprints, index: Tensor, axis: int, begin: int) -> Tensor:
    """Whether the squares around Gaussians touch a row or a column of tiles."""
    mean, radius = prints.means[index, axis], prints.radii[index].float()
    return (mean + radius >= begin) & (mean - radius <= begin + TILE)


def _until_opaque(prints: reference.Footprints, index: Tensor, left: int, top: int) -> tuple[int, Tensor]:
    """Entries of a tile's list before all its pixels are opaque, in whole chunks: how many, and which."""
    steps = torch.arange(TILE, device=index.device) + 0.5
    x = left + steps.repeat(TILE) - prints.means[index, 0:1]  # [K, 256]
    y = top + steps.repeat_interleave(TILE) - prints.means[index, 1:2]
    a, b, c = prints.conics[index].T[..., None]
    alpha = prints.opacities[index, None] * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)
    reaches = (alpha >= reference.MIN_ALPHA).any(1)  # some pixel centre of the tile
    alpha = torch.where(alpha >= reference.MIN_ALPHA, alpha.clamp(max=reference.MAX_ALPHA), 0.0)[reaches]
    clear = (1 - alpha).cumprod(0).amax(1) >= reference.MIN_TRANSMITTANCE  # after each entry
    finished = min(int(clear.sum()) // _CHUNK * _CHUNK + _CHUNK, len(clear))
    return finished, index[reaches][:finished]


@cache
def peer_problem() -> str | None:
    """Why there is no peer; None where there is one. The first import compiles its kernels for minutes."""
    if not torch.cuda.is_available():
        return "gsplat needs a GPU"
    try:
        import gsplat
        from gsplat.cuda._backend import _C
    except (ImportError, RuntimeError, OSError) as error:
        return f"gsplat cannot be used ({str(error).splitlines()[0]}): pip install {_GSPLAT}"
    if f"gsplat=={gsplat.__version__}" != _GSPLAT:
        return f"expected {_GSPLAT}, found {gsplat.__version__}: pip install {_GSPLAT}"
    return None if _C is not None else "gsplat has no compiled kernels: it needs nvcc to build them"


def peer_render(
    inputs: dict[str, Tensor],
    camera: Camera,
    outputs: tuple[str, ...],
    feature_scale: int | None,
    packed: bool,
) -> list[Tensor]:
    """The images that `outputs` name, [H, W, C] each, in as few passes as gsplat allows.

    Features of the image's size are channels of the same pass; it blends 32 of them at a time. Features at
    a fraction of the size are a pass of their own.
    """
    small = feature_scale not in (None, 1)
    same_pass = feature_scale == 1 and "features" in outputs
    values = torch.cat([inputs["colors"], inputs["features"]], 1) if same_pass else inputs["colors"]
    mode = "RGB+D" if "depth" in outputs else "RGB"
    images = [_peer_pass(inputs, values, camera, mode, packed)]
    if small and "features" in outputs:
        size = camera.width // feature_scale, camera.height // feature_scale  # type: ignore[operator]
        images.append(_peer_pass(inputs, inputs["features"], camera.resized(*size), "RGB", packed))
    return images


def _peer_pass(inputs: dict[str, Tensor], values: Tensor, camera: Camera, mode: str, packed: bool) -> Tensor:
    from gsplat import rasterization

    calibration = camera.matrix(torch.float32).to(values.device)
    image: Any = rasterization(
        inputs["means"], inputs["quaternions"], inputs["scales"], inputs["opacities"], values,
        inputs["cam_from_world"][None], calibration[None], camera.width, camera.height,
        near_plane=0.01, render_mode=mode, packed=packed,
    )[0]  # fmt: skip
    return image[0]
