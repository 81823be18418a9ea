"""Coordinates of a splat of which only the Gaussians are known: its core, and which direction is up."""

import math

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

_CORE = 0.05  # share of the Gaussians beyond each side of the core of the splat
_FRINGE = 0.02  # share of the Gaussians on each side that count for nothing
_FLAT = 0.3  # a Gaussian is flat if its smallest scale is less than this share of the next
_PARALLEL = 0.985  # cosine of normals that belong to one plane's direction
_DIRECTIONS = 800  # of a hemisphere, tried as normals of planes
_ROUNDS = 10  # of moving a normal to the middle of the normals near it


def core_frame(gaussians: Gaussians) -> MapFrame:
    """Coordinates in which the longest side of the core, a box around most of the splat, is from -1 to 1.

    Far background is outside of the core.
    """
    solid = gaussians.means[gaussians.opacities > 0.5].double()
    if len(solid) < 2:
        raise GSplatLocError("expected a splat with opaque Gaussians, found none: pass another file")
    sides = [[quantile(solid[:, axis], share) for axis in range(3)] for share in (_CORE, 1 - _CORE)]
    low, high = torch.tensor(sides, dtype=torch.float64)
    x, y, z = ((low + high) / 2).tolist()
    return MapFrame((x, y, z), max((high - low).max().item() / 2, 1e-12))


def up_direction(gaussians: Gaussians) -> Tensor:
    """The up direction [3] of a splat in the coordinates of its core, from its planes.

    Floor, table tops and walls give three dominant directions of normals. Places are wider than high: up is
    the direction of least extent, from the side with more Gaussians to that with fewer.
    """
    inside = (gaussians.means.abs() < 1).all(1)
    chosen = gaussians.select(inside)
    scales, order = chosen.scales.sort(1)
    axes = se3.rotation_from_quaternion(chosen.quaternions)
    normals = axes[torch.arange(len(chosen)), :, order[:, 0]]
    area = chosen.opacities * scales[:, 1] * scales[:, 2] * (scales[:, 0] < _FLAT * scales[:, 1])
    if not bool(area.sum() > 0):
        return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    area = area.clamp(max=quantile(area[area > 0], 0.95))  # a huge Gaussian is no proof of a plane
    tried = _hemisphere(_DIRECTIONS).to(normals)
    support = torch.stack([(area * ((normals @ one).abs() > _PARALLEL)).sum() for one in tried])
    candidates = []
    for _ in range(3):
        best = tried[support.argmax()]
        for _ in range(_ROUNDS):
            near = (normals @ best).abs() > _PARALLEL
            plane = normals[near]
            best = torch.linalg.eigh((plane.T * area[near]) @ plane).eigenvectors[:, -1]
        support = torch.where((tried @ best).abs() > 0.5, -torch.inf, support)
        heights = chosen.means @ best
        bottom, middle, top = (quantile(heights, share) for share in (0.02, 0.5, 0.98))
        candidates.append((top - bottom, best if middle - bottom <= top - middle else -best))
        if not bool(support.max() > 0):
            break
    return min(candidates, key=lambda candidate: candidate[0])[1].double().cpu()


def share_within(gaussians: Gaussians, positions: Tensor, up: Tensor) -> float:
    """Share of positions [P, 3] with something solid beyond them on all four sides, at whatever height.

    1 in a room or a street, 0 around an object that has nothing behind it.
    """
    east = torch.linalg.cross(up, torch.eye(3, dtype=up.dtype)[up.abs().argmin()])
    level = torch.stack([east, torch.linalg.cross(up, east)], 1)  # [3, 2]
    solid = gaussians.means[gaussians.opacities > 0.5].double().cpu() @ level
    low, high = (
        torch.tensor([quantile(solid[:, axis], share) for axis in range(2)], dtype=torch.float64)
        for share in (_FRINGE, 1 - _FRINGE)
    )
    there = positions.double() @ level
    return ((there > low) & (there < high)).all(1).double().mean().item() if len(positions) else 1.0


def _hemisphere(count: int) -> Tensor:
    """Unit vectors [count, 3], evenly over the directions with z > 0: a spiral of golden angles."""
    number = torch.arange(count, dtype=torch.float64) + 0.5
    z = number / count
    angle = number * math.pi * (3 - math.sqrt(5))
    radius = (1 - z**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)


def quantile(values: Tensor, share: float) -> float:
    """A quantile of values [N], as many as there are: `torch.quantile` takes 16 million."""
    return float(np.quantile(values.cpu().numpy(), share))
