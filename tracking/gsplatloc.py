"""RGB-D GSplatLoc: the pose at which the rendered depth is the sensor's, by gradient descent through
rendering.

Zhou, "GSplatLoc: Ultra-Precise Camera Localization via 3D Gaussian Splatting" (2024): 0.8 of the mean
absolute difference of depth and 0.2 of that of its contours (Sobel), where the map is opaque; Adam on
quaternion and translation; the best iterate is kept. There the previous frame's true pose is the start and a
rendering of the query's own points the measurement; here the start is the tracker's own prediction, the
measurement the sensor's depth, and the map what earlier frames made.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.tracking.frames import Frame
from gsplatloc.tracking.protocol import Tracked
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils import se3

_LEAST_PIXELS = 100  # with depth on both sides: fewer cannot hold a pose
_SOBEL = (
    torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]], [[[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]]]) / 8
)


@dataclass(frozen=True)
class GsplatLocOptions:
    """How rendered depth is aligned. Values in brackets are the paper's."""

    iterations: int = 300  # at most, of each frame
    patience: int = 100  # iterations without a new best before a frame is done (100)
    lr_quaternion: float = 5e-4  # Adam's learning rate (5e-4)
    lr_translation: float = 1e-3  # metres (1e-3)
    contour_weight: float = 0.2  # of the contours, the rest is depth's (0.2)
    min_alpha: float = 0.95  # a rendered pixel less opaque shows what is not mapped
    keyframe_shift: float = 0.1  # metres plus radians after which a frame's depth enters the map
    render: RenderOptions = field(default_factory=RenderOptions)


class GsplatLocAligner:
    """`Aligner` by rendering the map's depth, as published."""

    def __init__(self, surface: SurfaceMap, options: GsplatLocOptions | None = None):
        self.options = options or GsplatLocOptions()
        self._surface = surface
        self._gaussians: Gaussians | None = None
        self._version = 0  # of the map that `_gaussians` were made of
        self._keyframe: Tensor = torch.eye(4, dtype=torch.float64)

    def start(self, frame: Frame, cam_from_world: Tensor) -> None:
        self._keyframe = cam_from_world

    def track(self, frame: Frame, predicted: Tensor) -> Tracked:
        """The pose near `predicted` [4, 4] at which the map's rendered depth is the frame's."""
        if self._gaussians is None or self._surface.version != self._version:
            self._gaussians, self._version = self._surface.gaussians(), self._surface.version
        pose, ok = descend(self._gaussians, frame, predicted, self.options)
        moved = se3.se3_log(pose @ se3.inverse(self._keyframe)).norm().item()
        keyframe = ok and moved > self.options.keyframe_shift
        if keyframe:
            self._keyframe = pose
        return Tracked(pose, ok, keyframe)


@torch.enable_grad()
def descend(
    gaussians: Gaussians, frame: Frame, start: Tensor, options: GsplatLocOptions
) -> tuple[Tensor, bool]:
    """The best pose met on the way down from `start` [4, 4], and whether there was anything to compare."""
    quaternion = se3.quaternion_from_rotation(start[:3, :3]).float().requires_grad_()
    translation = start[:3, 3].float().clone().requires_grad_()
    adam = torch.optim.Adam(
        [
            {"params": [quaternion], "lr": options.lr_quaternion},
            {"params": [translation], "lr": options.lr_translation},
        ]
    )
    best, lowest, stale = start, float("inf"), 0
    for _ in range(options.iterations):
        pose = se3.from_rotation_translation(se3.rotation_from_quaternion(quaternion), translation)
        loss = depth_loss(gaussians, frame.camera, frame.depth, pose, options)
        if loss is None:
            break
        stale += 1
        if loss.item() < lowest:
            lowest, best, stale = loss.item(), pose.detach().double(), 0
        if stale >= options.patience:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
    return best, lowest < float("inf")


def depth_loss(
    gaussians: Gaussians, camera: Camera, depth: Tensor, cam_from_world: Tensor, options: GsplatLocOptions
) -> Tensor | None:
    """0.8 |D - D'| + 0.2 |Sobel D - Sobel D'| over pixels known to both; None where these are too few."""
    shown = render(gaussians, camera, cam_from_world, options.render)
    depth = depth.to(shown.depth)
    mask = (shown.alpha.detach() > options.min_alpha) & (depth > 0)
    if int(mask.sum()) < _LEAST_PIXELS:
        return None
    distance = (shown.depth - depth).abs()[mask].mean()
    inner = F.max_pool2d((~mask).float()[None, None], 3, stride=1, padding=1)[0, 0] == 0
    if not inner.any():
        return distance
    contours = (_contour(shown.depth * mask) - _contour(depth * mask)).abs()[inner].mean()
    return (1 - options.contour_weight) * distance + options.contour_weight * contours


def _contour(depth: Tensor) -> Tensor:
    """Length of the Sobel gradient [H, W] of a depth image, in metres per pixel."""
    slopes = F.conv2d(depth[None, None], _SOBEL.to(depth), padding=1)[0]
    return (slopes.square().sum(0) + 1e-12).sqrt()
