"""A map from above, with cameras: where photos were taken, and where queries were found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsplatloc.gaussian_renderer import render
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.visualization import images
from gsplatloc.visualization.images import RGB, Image

_BACKGROUND = 20  # grey level
_OPACITY = 0.3  # fainter Gaussians are not drawn
_LARGEST = 0.02  # of the plan's extent: standard deviation above which a Gaussian is not drawn ...
_DRAWN = 0.006  # ... and to which that of the others is limited
_HEADROOM = 0.05  # of the plan's extent: how far above the highest camera the map is shown
_DISTANCE = 30.0  # of the camera above the map, in extents of the plan: hardly any perspective
_MARGIN = 0.4  # of the cameras' extent: how far beyond them the map is shown, at least
_SHOWN = (2.0, 98.0)  # percentiles of the Gaussians' positions that are shown
# Images lie on their side if there are so many, and the mean of the right axis is so much longer: by 0.13 for
# a camera that nods by 45 degrees up and down, by 0.54 for one on its side that turns by 230 degrees.
_LEAST_POSES, _ON_ITS_SIDE = 10, 0.3
_ARROW_PX = 11  # length of a viewing direction ...
_DOT_PX = 2.5  # ... and radius of a camera; of at most ...
_FEW = 40  # ... so many cameras twice as much: they are not in each other's way


@dataclass(frozen=True)
class Cameras:
    """Cameras to be drawn alike."""

    poses: Tensor  # [N, 4, 4] cam_from_world
    color: RGB


def draw_plan(gaussians: Gaussians | None, groups: Sequence[Cameras], size: int = 720) -> Image:
    """The map seen from above and cameras with their viewing direction; the longer side has `size` pixels.

    Above is where the images' upper edges point on average (`up_direction`). Later groups are
    drawn over earlier ones.
    """
    poses = torch.cat([group.poses.double() for group in groups])
    to_plan = _plan_from_world(poses)  # [3, 3]; rows: right, down, height
    centers = se3.camera_center(poses).numpy() @ to_plan.T
    means = np.zeros((0, 3)) if gaussians is None else gaussians.means.double().cpu().numpy() @ to_plan.T
    low, high = _bounds(centers[:, :2], means[:, :2])
    scale = size / (high - low).max()
    canvas = np.full((*np.ceil((high - low)[::-1] * scale).astype(int), 3), _BACKGROUND, np.uint8)
    if gaussians is not None:
        ceiling = centers[:, 2].max() + _HEADROOM * (high - low).max()
        canvas = _drawn_map(gaussians, to_plan, low, high, scale, ceiling)
    factor = 2 if len(poses) <= _FEW else 1
    for group in groups:
        axes = group.poses.double().numpy()[:, 2, :3] @ to_plan.T
        at = se3.camera_center(group.poses.double()).numpy() @ to_plan.T
        at, axes = (at[:, :2] - low) * scale, axes[:, :2] * factor * _ARROW_PX
        images.draw_rays(canvas, at, axes, group.color, factor * _DOT_PX)
    return canvas


def _plan_from_world(poses: Tensor) -> NDArray[np.float64]:
    """Rotation [3, 3] into a frame: along the cameras' longest horizontal extent, across it, and up."""
    up = up_direction(poses)
    centers = se3.camera_center(poses).numpy()
    flat = (centers - centers.mean(0)) @ (np.eye(3) - np.outer(up, up))
    right = np.linalg.svd(np.vstack([flat, 1e-9 * np.eye(3)]), full_matrices=False)[2][0]
    right -= up * (up @ right)
    if np.linalg.norm(right) < 1e-6:  # the longest extent is vertical: any horizontal axis
        right = np.linalg.svd(up[None])[2][1]
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, up), up])


def up_direction(poses: Tensor) -> NDArray[np.float64]:
    """[3] in world coordinates: where the images' upper edges point on average.

    Or their left edges, if images lie on their side, as phones that are held upright store them: whoever
    turns around the vertical changes the direction of every other axis more. Images turned the other way,
    whose right edges are up, come out upside down.
    """
    right, down = poses[:, :2, :3].mean(0)
    on_its_side = len(poses) >= _LEAST_POSES and right.norm() > down.norm() + _ON_ITS_SIDE
    axis = right if on_its_side else down
    return -torch.nn.functional.normalize(axis, dim=0).numpy()


def _bounds(centers: NDArray[np.floating], means: NDArray[np.floating]) -> tuple[NDArray, NDArray]:
    """Corners of the part that is shown: all cameras, and most of the map as far as it is not remote."""
    low, high = centers.min(0), centers.max(0)
    margin = _MARGIN * max(float((high - low).max()), 1e-6)
    if len(means):
        near, far = np.percentile(means, _SHOWN, axis=0)
        extent = 4 * (margin / _MARGIN) + margin
        low = np.minimum(low, np.maximum(near, low - extent))
        high = np.maximum(high, np.minimum(far, high + extent))
    return low - margin / 4, high + margin / 4


@torch.no_grad()
def _drawn_map(gaussians: Gaussians, to_plan: NDArray[np.floating], low: NDArray, high: NDArray, scale: float,
               ceiling: float) -> Image:  # fmt: skip
    """The map rendered from far above, up to the height `ceiling`, over a dark background.

    Large Gaussians, which fill the background of photos, are left out; of the others the size is limited.
    """
    extent = float((high - low).max())
    height = gaussians.means.double() @ torch.from_numpy(to_plan[2]).to(gaussians.device)
    kept = (height < ceiling) & (gaussians.opacities > _OPACITY)
    kept &= gaussians.scales.amax(1) < _LARGEST * extent
    shown = gaussians.select(torch.nonzero(kept)[:, 0])
    shown = replace(shown, log_scales=shown.log_scales.clamp(max=math.log(_DRAWN * extent)))
    rotation = np.stack([to_plan[0], to_plan[1], -to_plan[2]])
    center = np.array([*(low + high) / 2, ceiling + _DISTANCE * extent]) @ to_plan
    pose = se3.from_rotation_translation(torch.from_numpy(rotation), -torch.from_numpy(rotation @ center))
    width, rows = np.ceil((high - low) * scale).astype(int).tolist()
    focal = scale * _DISTANCE * extent
    rendered = render(shown, Camera(width, rows, focal, focal, width / 2, rows / 2), pose)
    return images.to_image(rendered.rgb + (1 - rendered.alpha) * _BACKGROUND / 255)
