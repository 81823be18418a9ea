"""Rendering for time: random Gaussians ("cube-N") or a map; how time grows with scene, image and threads."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks.harness.measuring import Lap, Probe, Protocol, measure
from benchmarks.harness.results import saved_figure
from gsplatloc.gaussian_renderer import sh
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

CHANNELS = 64
MAP_GRADIENTS = ("means", "quaternions", "scales", "opacities", "colors", "features")
_SUFFIXES = {"k": 1_000, "M": 1_000_000, "": 1}


@dataclass(frozen=True)
class Case:
    """One combination of outputs and gradients."""

    name: str
    outputs: tuple[str, ...]  # the outputs that the loss uses
    feature_scale: int | None = None  # features are rendered at 1/scale; None = not rendered
    gradients: tuple[str, ...] = MAP_GRADIENTS
    moves_geometry: bool = False  # the feature gradient reaches shapes and opacities, as gsplat's always does
    precision: str = "float32"  # of feature products on a GPU


CASES = (
    Case("rgb", ("rgb",)),
    Case("rgb + depth", ("rgb", "depth")),
    Case("rgb + depth + 64 features at 1/8", ("rgb", "depth", "features"), 8),
    Case("rgb + depth + 64 features, full size", ("rgb", "depth", "features"), 1),
    Case("rgb, pose only", ("rgb",), None, ("cam_from_world",)),
)
_RGB, _FEATURES = CASES[0], Case("features", ("rgb", "features"), 1)
_SIZE = (640, 480)
_ROUNDS, _SECONDS = 5, 20.0  # of each point of a curve

Curve = dict[str, list[float]]  # "x", and milliseconds: "forward", "backward"

TITLES = {
    "gaussians": "Gaussians (640x480, RGB)",
    "pixels": "pixels (cube-100k, RGB)",
    "channels": "feature channels (cube-100k, 640x480, full size)",
    "threads": "threads (cube-100k, 640x480, RGB)",
}


@dataclass(frozen=True)
class RasterScene:
    """The rasterizer's inputs, on the CPU and without gradients, and the camera."""

    name: str
    inputs: dict[str, Tensor]
    camera: Camera

    @property
    def title(self) -> str:
        return f"{self.name}, {self.camera.width}x{self.camera.height}"

    def with_channels(self, channels: int) -> "RasterScene":
        """The same scene with descriptors of another length."""
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(len(self.inputs["means"]), channels, generator=generator)
        return replace(self, inputs=self.inputs | {"features": features})

    def leaves(self, case: Case, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """A copy of the inputs that a case uses, those that need gradients being leaves of autograd."""
        return {
            name: tensor.to(device, copy=True).requires_grad_(name in case.gradients)
            for name, tensor in self.inputs.items()
            if name != "features" or case.feature_scale
        }


def load_scene(name: str, width: int, height: int) -> RasterScene:
    """A scene by name, cube-N (100k, 1M) or the folder of a map, and a camera of the given size in it."""
    match = re.fullmatch(r"cube-(\d+)([kM]?)", name)
    if match:
        camera = Camera(width, height, 500.0 * width / 640, 500.0 * width / 640, width / 2, height / 2)
        return RasterScene(name, cube(int(match[1]) * _SUFFIXES[match[2]]), camera)
    if not Path(name).is_dir():
        raise GSplatLocError(
            f"expected cube-N or the folder of a map, found '{name}': correct the scene's name"
        )
    return _map_scene(Path(name), width, height)


def cube(count: int) -> dict[str, Tensor]:
    """Scene "cube": means in [-1, 1]^3 + (0, 0, 3), scales in [0.005, 0.02], everything else random."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return {
        "means": uniform(count, 3) * 2 - 1 + torch.tensor([0.0, 0.0, 3.0]),
        "quaternions": torch.randn(count, 4, generator=generator),
        "scales": uniform(count, 3) * 0.015 + 0.005,
        "opacities": uniform(count),
        "colors": uniform(count, 3),
        "features": torch.randn(count, CHANNELS, generator=generator),
        "cam_from_world": torch.eye(4),
    }


def _map_scene(folder: Path, width: int, height: int) -> RasterScene:
    """A map from the middle one of its training cameras; random descriptors where it has none of 64."""
    gaussians, cameras = load_gaussians(folder), read_cameras(folder)
    posed = cameras[len(cameras) // 2]
    pose = posed.cam_from_world.float()
    features = gaussians.features
    if features.shape[1] != CHANNELS:
        features = torch.randn(len(gaussians), CHANNELS, generator=torch.Generator().manual_seed(0))
    inputs = {
        "means": gaussians.means,
        "quaternions": gaussians.quaternions,
        "scales": gaussians.scales,
        "opacities": gaussians.opacities,
        "colors": sh.colors(gaussians.sh, gaussians.means, se3.camera_center(pose), gaussians.sh_degree),
        "features": features,
        "cam_from_world": pose,
    }
    plain = {name: tensor.detach().contiguous() for name, tensor in inputs.items()}
    return RasterScene(folder.name, plain, posed.camera.resized(width, height))


def settings_for(case: Case, camera: Camera, threads: int) -> native.RasterizerSettings:
    scale = case.feature_scale or 1
    return native.RasterizerSettings(
        camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy,
        max(camera.width // scale, 1), max(camera.height // scale, 1),
        features_move_geometry=case.moves_geometry, threads=threads,
        feature_precision=case.precision,
    )  # fmt: skip


def rasterize(case: Case, inputs: dict[str, Tensor], settings: native.RasterizerSettings) -> list[Tensor]:
    """The outputs that a case's loss uses."""
    result = native.rasterize(**inputs, settings=settings)
    return [getattr(result, output) for output in case.outputs]


def backward(
    case: Case, inputs: dict[str, Tensor], outputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> None:
    leaves = [tensor for tensor in inputs.values() if tensor.requires_grad]
    torch.autograd.grad(list(outputs), leaves, list(grads), allow_unused=True)


def raster_probe(scene: RasterScene, case: Case, threads: int, name: str | None = None) -> Probe:
    """A case on the CPU, with the laps "forward" and "backward"."""
    settings, inputs = settings_for(case, scene.camera, threads), scene.leaves(case)

    def run(lap: Lap) -> None:
        with lap("forward"):
            outputs = rasterize(case, inputs, settings)
        grads = [torch.full_like(output, 1e-3) for output in outputs]
        with lap("backward"):
            backward(case, inputs, outputs, grads)

    return Probe(name or f"{scene.title}, {case.name}", run)


def measure_growth(threads: int) -> dict[str, Curve]:
    """The four curves."""
    curves: dict[str, Curve] = {}

    def add(axis: str, x: float, scene: RasterScene, case: Case = _RGB, count: int = threads) -> None:
        figures = measure(
            [raster_probe(scene, case, count, axis)], Protocol(count, _ROUNDS, seconds=_SECONDS)
        )
        curve = curves.setdefault(axis, {"x": [], "forward": [], "backward": []})
        curve["x"].append(x)
        for lap in ("forward", "backward"):
            curve[lap].append(figures[f"{axis}: {lap}"].median_ms)

    for number in (10_000, 30_000, 100_000, 300_000, 1_000_000):
        add("gaussians", number, load_scene(f"cube-{number}", *_SIZE))
    for width in (160, 320, 640, 1280):
        height = width * 3 // 4
        add("pixels", width * height, load_scene("cube-100k", width, height))
    scene = load_scene("cube-100k", *_SIZE)
    for channels in (8, 16, 32, 64, 128):
        add("channels", channels, scene.with_channels(channels), _FEATURES)
    cores = os.cpu_count() or 1
    for number in sorted({cores, *(1 << power for power in range(8) if 1 << power <= cores)}):
        add("threads", number, scene, count=number)
    return curves


def plot_growth(curves: Mapping[str, Curve], machine: Mapping[str, Any], path: Path) -> None:
    """Four panels, both axes logarithmic."""
    from matplotlib.ticker import LogLocator

    with saved_figure(path, (8, 6)) as figure:
        for axes, (name, curve) in zip(figure.subplots(2, 2).flat, curves.items()):
            for lap, marker in (("forward", "o"), ("backward", "s")):
                axes.loglog(curve["x"], curve[lap], marker=marker, markersize=4, label=lap)
            axes.set(xlabel=TITLES[name], ylabel="ms")
            axes.set_ylim(bottom=min(curve["forward"]) / 2, top=max(curve["backward"]) * 2)
            axes.set_xticks(curve["x"], [_short(value) for value in curve["x"]])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        figure.axes[0].legend()
        figure.suptitle(
            f"{machine['processor']}, {machine['isa']}, {machine['threads']} threads", fontsize=10
        )


def _short(value: float) -> str:
    for unit, suffix in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:g}"
