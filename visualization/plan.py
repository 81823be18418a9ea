"""A map from above, with cameras: where photos were taken, and where queries were found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00
from gsplatloc.utils import se3
from gsplatloc.visualization import images
from gsplatloc.visualization.images import RGB, Image

_BACKGROUND = 20  # grey level
_OPACITY = 0.5  # fainter Gaussians are not drawn
_MARGIN = 0.4  # of the cameras' extent: how far beyond them the map is shown, at least
_SHOWN = (2.0, 98.0)  # percentiles of the Gaussians' positions that are shown
_ARROW_PX = 11  # length of a viewing direction


@dataclass(frozen=True)
class Cameras:
    """Cameras to be drawn alike."""

    poses: Tensor  # [N, 4, 4] cam_from_world
    color: RGB


def draw_plan(gaussians: Gaussians | None, groups: Sequence[Cameras], size: int = 720) -> Image:
    """The map seen from above and cameras with their viewing direction; the longer side has `size` pixels.

    Above is where the images' upper edges point on average. Later groups are drawn over earlier ones.
    """
    poses = torch.cat([group.poses.double() for group in groups])
    to_plan = _plan_from_world(poses)  # [3, 3]; rows: right, down, height
    centers = se3.camera_center(poses).numpy() @ to_plan.T
    means = np.zeros((0, 3)) if gaussians is None else gaussians.means.double().cpu().numpy() @ to_plan.T
    low, high = _bounds(centers[:, :2], means[:, :2])
    scale = size / (high - low).max()
    canvas = np.full((*np.ceil((high - low)[::-1] * scale).astype(int), 3), _BACKGROUND, np.uint8)
    if gaussians is not None:
        _draw_gaussians(canvas, gaussians, means, low, scale)
    for group in groups:
        axes = group.poses.double().numpy()[:, 2, :3] @ to_plan.T
        at = se3.camera_center(group.poses.double()).numpy() @ to_plan.T
        images.draw_rays(canvas, (at[:, :2] - low) * scale, axes[:, :2] * _ARROW_PX, group.color)
    return canvas


def _plan_from_world(poses: Tensor) -> NDArray[np.float64]:
    """Rotation [3, 3] into a frame: along the cameras' longest horizontal extent, across it, and up."""
    up = -torch.nn.functional.normalize(poses[:, 1, :3].mean(0), dim=0).numpy()
    centers = se3.camera_center(poses).numpy()
    flat = (centers - centers.mean(0)) @ (np.eye(3) - np.outer(up, up))
    right = np.linalg.svd(np.vstack([flat, 1e-9 * np.eye(3)]), full_matrices=False)[2][0]
    right -= up * (up @ right)
    if np.linalg.norm(right) < 1e-6:  # the longest extent is vertical: any horizontal axis
        right = np.linalg.svd(up[None])[2][1]
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, up), up])


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


def _draw_gaussians(
    canvas: Image, gaussians: Gaussians, plan: NDArray[np.floating], low: NDArray, scale: float
) -> None:
    """One pixel per opaque Gaussian, upper ones over lower ones."""
    opaque = gaussians.opacities.cpu().numpy() > _OPACITY
    colors = (gaussians.sh[:, 0].cpu().numpy() * Y_00 + 0.5).clip(0, 1) * 255
    column, row = np.floor((plan[:, :2] - low) * scale).astype(int).T
    height, width = canvas.shape[:2]
    inside = opaque & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    order = np.flatnonzero(inside)[np.argsort(plan[inside, 2], kind="stable")]
    canvas[row[order], column[order]] = colors[order].astype(np.uint8)
