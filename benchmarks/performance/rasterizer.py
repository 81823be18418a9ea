"""What is rendered for time, and the cases: random Gaussians ("cube-N") or a map, outputs and gradients."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks.harness.yardstick import Lap, Probe
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
