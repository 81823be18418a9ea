"""Tracking by `gsplatloc`: gradient descent of the difference between rendered and measured depth.

Zhou, "GSplatLoc: Ultra-Precise Camera Localization via 3D Gaussian Splatting" (2024): 0.8 of the mean
absolute difference of depth and 0.2 of that of its contours (Sobel), where the map is opaque; Adam on
quaternion and translation; the best iterate is kept. In the paper the initial pose is the previous frame's
ground truth, and the measurement a rendering of the query's own points; here the initial pose is the
tracker's prediction, the measurement the sensor's depth, and the map is fused from earlier frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.alignment.adam import Adam, QuaternionPose
from gsplatloc.localization.alignment.rendered_view import eroded
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.tracking.options import GsplatLocOptions
from gsplatloc.tracking.protocol import Tracked
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils import se3

_MIN_PIXELS = 100  # with depth in both images: fewer do not determine a pose
_MIN_ALPHA = 0.95  # a rendered pixel less opaque shows an unmapped part of the scene
_CONTOUR_WEIGHT = 0.2  # of the contours, the rest is that of depth (0.2)
_SOBEL = (
    torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]], [[[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]]]) / 8
)


class GsplatLocAligner:
    """`Aligner` by rendering the map's depth, as published."""

    def __init__(self, surface: SurfaceMap, options: GsplatLocOptions | None = None):
        self.options = options or GsplatLocOptions()
        self._surface = surface
        self._gaussians: Gaussians | None = None
        self._version = 0  # of the map that `_gaussians` were made of
        self._keyframe: Tensor = torch.eye(4, dtype=torch.float64)

    def start(self, frame: RgbdFrame, cam_from_world: Tensor) -> None:
        self._keyframe = cam_from_world

    def track(self, frame: RgbdFrame, predicted: Tensor) -> Tracked:
        """The pose near `predicted` [4, 4] of least difference between rendered and measured depth."""
        if self._gaussians is None or self._surface.version != self._version:
            self._gaussians, self._version = self._surface.gaussians(), self._surface.version
        pose, ok = depth_descent(self._gaussians, frame, predicted, self.options)
        moved = se3.se3_log(pose @ se3.inverse(self._keyframe)).norm().item()
        keyframe = ok and moved > self.options.keyframe_shift
        if keyframe:
            self._keyframe = pose
        return Tracked(pose, ok, keyframe)


@torch.enable_grad()
def depth_descent(
    gaussians: Gaussians, frame: RgbdFrame, start: Tensor, options: GsplatLocOptions
) -> tuple[Tensor, bool]:
    """The pose [4, 4] of least loss on the descent from `start`, and if enough depth could be compared."""
    unknowns, adam = QuaternionPose(start, depth=1.0), Adam()
    best, lowest, stale = start, float("inf"), 0
    for _ in range(options.iterations):
        pose = unknowns.pose()
        loss = depth_loss(gaussians, frame.camera, frame.depth, pose)
        if loss is None:
            break
        stale += 1
        if loss.item() < lowest:
            lowest, best, stale = loss.item(), pose.detach(), 0
        if stale >= options.patience:
            break
        (gradient,) = torch.autograd.grad(loss, unknowns.unknowns)
        unknowns.retract(options.lr * adam.step(gradient))
    return best, lowest < float("inf")


def depth_loss(gaussians: Gaussians, camera: Camera, depth: Tensor, cam_from_world: Tensor) -> Tensor | None:
    """0.8 |D - D'| + 0.2 |Sobel D - Sobel D'| over pixels known to both; None where these are too few."""
    shown = render(gaussians, camera, cam_from_world)
    depth = depth.to(shown.depth)
    mask = (shown.alpha.detach() > _MIN_ALPHA) & (depth > 0)
    if int(mask.sum()) < _MIN_PIXELS:
        return None
    distance = (shown.depth - depth).abs()[mask].mean()
    inner = eroded(mask)
    if not inner.any():
        return distance
    contours = (_contour(shown.depth * mask) - _contour(depth * mask)).abs()[inner].mean()
    return (1 - _CONTOUR_WEIGHT) * distance + _CONTOUR_WEIGHT * contours


def _contour(depth: Tensor) -> Tensor:
    """Length of the Sobel gradient [H, W] of a depth image, in metres per pixel."""
    gradient = F.conv2d(depth[None, None], _SOBEL.to(depth), padding=1)[0]
    return (gradient.square().sum(0) + 1e-12).sqrt()
