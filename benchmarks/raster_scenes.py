"""What is rendered for time: the scene "cube" of random Gaussians, and maps that train.py made."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import sh
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import read_cameras
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

CHANNELS = 64
_COPIES_BYTES = 200_000_000  # all copies together: more than the cache of any GPU
_MOST_COPIES = 8
_SUFFIXES = {"k": 1_000, "M": 1_000_000, "": 1}


@dataclass(frozen=True)
class BenchmarkScene:
    """The rasterizer's inputs, on the CPU, without gradients."""

    name: str
    inputs: dict[str, Tensor]

    @property
    def count(self) -> int:
        return len(self.inputs["means"])

    def copies(self, device: torch.device, gradients: tuple[str, ...]) -> list[dict[str, Tensor]]:
        """The inputs on a device, in so many copies that a cache cannot hold what comes next."""
        size = sum(tensor.nbytes for tensor in self.inputs.values())
        number = min(max(_COPIES_BYTES // size, 1) + 1, _MOST_COPIES) if device.type == "cuda" else 1
        return [
            {
                name: tensor.to(device, copy=True).requires_grad_(name in gradients)
                for name, tensor in self.inputs.items()
            }
            for _ in range(number)
        ]


def load_scene(name: str, width: int, height: int) -> tuple[BenchmarkScene, Camera]:
    """A scene by name, cube-N (100k, 1M) or the folder of a map, and a camera of the given size in it."""
    match = re.fullmatch(r"cube-(\d+)([kM]?)", name)
    if match:
        camera = Camera(width, height, 500.0 * width / 640, 500.0 * width / 640, width / 2, height / 2)
        return BenchmarkScene(name, cube(int(match[1]) * _SUFFIXES[match[2]])), camera
    if not Path(name).is_dir():
        raise GSplatLocError(f"expected cube-N or the folder of a map, found '{name}': see --scenes")
    return map_scene(Path(name), width, height)


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
        "features": torch.randn(count, CHANNELS, generator=generator),
        "cam_from_world": torch.eye(4),
    }


def map_scene(folder: Path, width: int, height: int) -> tuple[BenchmarkScene, Camera]:
    """A map seen from the middle one of its training cameras; random descriptors where it has none."""
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
    return BenchmarkScene(folder.name, plain), posed.camera.resized(width, height)
