"""Virtual views: random poses near those of the mapping images, from which the map can be rendered.

GSLoc (Botashev et al. 2024) extends retrieval by rendered views, so that initial poses are closer to the
query where mapping images are sparse. A pose is drawn between two neighbouring views, moved and turned; it is
kept if a small rendering shows enough of the map, and no surface right in front of the camera.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3

_SHIFT = 0.1  # standard deviation of the offset in every direction, depths of the scene
_TURN_DEG = 10.0  # standard deviation of the rotation about every axis
_NEIGHBOURS = 3  # nearest mapping views, one of which the other end of an interpolation is drawn from
_MIN_OPAQUE = 0.8  # share of the pixels that must show something
_MIN_DEPTH = 0.25  # closest tenth of the pixels, depths of the scene: nearer is in front of a wall
_TRIES = 20  # maximum number of poses drawn per view kept
_MISSES = 200  # in a row that end the search: the map shows nothing there
_MAX_SIDE = 80  # pixels of the renderings that are checked


def virtual_views(
    gaussians: Gaussians,
    views: Sequence[PosedCamera],
    count: int,
    seed: int = 0,
) -> list[PosedCamera]:
    """Up to `count` views between and beside `views`, the same for the same seed.

    There are fewer if the map shows nothing at most of the poses tried.
    """
    if count <= 0 or not views:
        return []
    depth = typical_depth(gaussians, views)
    kept: list[PosedCamera] = []
    misses = 0
    for candidate in _candidates(views, depth, count * _TRIES, seed):
        misses += 1
        if _can_be_rendered(gaussians, candidate, depth):
            kept.append(candidate)
            misses = 0
        if len(kept) == count or misses == _MISSES:
            break
    return kept


@torch.no_grad()
def typical_depth(gaussians: Gaussians, views: Sequence[PosedCamera]) -> float:
    """Median over a few views of the median depth, metres; 1 if the map shows nothing."""
    depths = []
    for view in views[:: max(1, len(views) // 16)]:
        depth, alpha = _small_rendering(gaussians, view)
        if bool((alpha > 0.5).any()):
            depths.append(depth[alpha > 0.5].median())
    return torch.stack(depths).median().item() if depths else 1.0


def _candidates(views: Sequence[PosedCamera], depth: float, count: int, seed: int) -> Iterator[PosedCamera]:
    """Poses drawn between each view and one of its neighbours, view after view in random order."""
    generator = torch.Generator().manual_seed(seed)
    neighbours = _neighbours(views, depth)
    order: list[int] = []
    units = torch.tensor([_SHIFT * depth] * 3 + [math.radians(_TURN_DEG)] * 3).double()
    for _ in range(count):
        order = order or torch.randperm(len(views), generator=generator).tolist()
        index = order.pop()
        among = neighbours[index]
        other = int(among[torch.randint(len(among), (1,), generator=generator)])
        share = torch.rand(1, generator=generator, dtype=torch.float64)
        here, there = views[index].cam_from_world.double(), views[other].cam_from_world.double()
        between = se3.se3_exp(share * se3.se3_log(there @ se3.inverse(here))) @ here
        offset = torch.randn(6, generator=generator, dtype=torch.float64) * units
        yield PosedCamera(views[index].camera, se3.se3_exp(offset) @ between)


def _neighbours(views: Sequence[PosedCamera], depth: float) -> Tensor:
    """Indices [V, k] of the views nearest to each, itself included; a radian counts as the scene's depth."""
    poses = torch.stack([view.cam_from_world.double() for view in views])
    coordinates = torch.cat([se3.camera_center(poses), depth * poses[:, 2, :3]], 1)  # centre and optical axis
    return torch.cdist(coordinates, coordinates).topk(min(_NEIGHBOURS + 1, len(views)), largest=False).indices


@torch.no_grad()
def _can_be_rendered(gaussians: Gaussians, view: PosedCamera, depth: float) -> bool:
    """True if most of the rendering is opaque, and no surface is right in front of the camera."""
    found, alpha = _small_rendering(gaussians, view)
    opaque = alpha > 0.5
    if opaque.float().mean().item() < _MIN_OPAQUE:
        return False
    return torch.quantile(found[opaque], 0.1).item() > _MIN_DEPTH * depth


def _small_rendering(gaussians: Gaussians, view: PosedCamera) -> tuple[Tensor, Tensor]:
    """Depth and alpha [h, w] of a small rendering."""
    result = render(gaussians, shrunk(view.camera, _MAX_SIDE), view.cam_from_world, RenderOptions())
    return result.depth, result.alpha
