"""The photometric objective: the L1 difference between a query image and a rendering at every iterate.

The gradient of the pose is the rasterizer's analytic one. Only the Gaussians near the field of view are
rendered, and images of half the size as long as the blur removes what these would not show.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.adam import Adam, PoseParametrization
from gsplatloc.localization.alignment.options import DescentOptions
from gsplatloc.localization.alignment.rendered_view import luma, motion_rad, shrunk, shrunk_low_pass
from gsplatloc.localization.queries import Query
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb

_MIN_SIGMA = 0.3  # pixels; a narrower blur is none
_WIDER = 1.5  # field of view in which Gaussians are kept, relative to the camera's
_CULLED_FOR = 0.15  # radians of view: after a larger motion Gaussians are culled again
_HALVED_PX = 1.5  # pixels of the image of half the size: from this blur on that image is compared
_FADE = 0.5  # share of the steps over which the blur fades to zero, linearly
_MIN_CHANGE, _PATIENCE = 1e-5, 3  # of the loss, colours in [0, 1]: as many smaller changes end a descent
_MIN_GAIN, _WINDOW = 1e-3, 25  # relative decrease of the least loss over a window of steps; less ends it too


@dataclass(frozen=True)
class Iterate:
    """A pose with the difference between its rendering and the query image."""

    pose: Tensor  # [4, 4] float64
    loss: float  # mean absolute difference, colours in [0, 1]
    residual: Tensor  # [3, H, W], rendering minus query image

    @property
    def psnr(self) -> float:
        """Of the rendering against the query image, dB."""
        return -10 * math.log10(max(self.residual.square().mean().item(), 1e-12))


@dataclass(frozen=True)
class PhotometricObjective:
    """A query image and the map that it is compared with, at one size."""

    query: Tensor  # [3, H, W] in [0, 1]
    gaussians: Gaussians
    camera: Camera  # of the query image at this size
    options: RenderOptions  # with the low-pass filter of this size

    @property
    def side(self) -> int:
        """The longer side in pixels."""
        return max(self.camera.width, self.camera.height)

    def residual(self, pose: Tensor) -> Tensor:
        """Rendering minus query image [3, H, W], differentiable in `pose` [4, 4] alone."""
        return render(self.gaussians, self.camera, pose, self.options).rgb - self.query

    @torch.no_grad()
    def evaluate(self, pose: Tensor) -> tuple[Iterate, float | None]:
        """The iterate at a pose, and the median depth of its rendering; None where nothing is mapped."""
        result = render(self.gaussians, self.camera, pose, self.options)
        residual = result.rgb - self.query
        seen = result.depth[result.alpha > 0.5]
        depth = seen.median().item() if len(seen) else None
        return Iterate(pose, residual.abs().mean().item(), residual), depth

    @torch.no_grad()
    def culled(self, pose: Tensor) -> "PhotometricObjective":
        """The same with only the Gaussians in a wider field of view around a pose: all others cost time.

        Occluded ones are kept: the camera moves, and renderings without them had holes.
        """
        camera, extra = self.camera, 0.5 * (_WIDER - 1)
        wide = Camera(
            round(_WIDER * camera.width), round(_WIDER * camera.height), camera.fx, camera.fy,
            camera.cx + extra * camera.width, camera.cy + extra * camera.height,
        )  # fmt: skip
        radii = render(self.gaussians, wide, pose, self.options).radii
        return replace(self, gaussians=self.gaussians.select(radii > 0))


def photometric_objective(query: Query, gaussians: Gaussians, scale: float) -> PhotometricObjective:
    """The query image at a fraction of its size, and the map with the low-pass filter of that size."""
    camera = query.camera
    small = shrunk(camera, round(scale * max(camera.width, camera.height)))
    image = torch.from_numpy(resize_rgb(query.image, small.width, small.height))
    image = image.to(gaussians.means).permute(2, 0, 1).contiguous() / 255
    options = RenderOptions(low_pass=shrunk_low_pass(camera, max(small.width, small.height)))
    return PhotometricObjective(image, gaussians.detach(), small, options)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [C, H, W]. Blurring is linear: the blurred difference is that of the blurred images.

    Two products with banded matrices: as fast for any sigma, and the gradient is two more.
    """
    if sigma < _MIN_SIGMA:
        return image
    rows, columns = (_blur_matrix(size, sigma).to(image) for size in image.shape[1:])
    return rows @ image @ columns.T


def _blur_matrix(size: int, sigma: float) -> Tensor:
    """[size, size], every row a Gaussian of sum 1: the image does not darken near its border."""
    index = torch.arange(size, dtype=torch.float32)
    weights = torch.exp((index[:, None] - index) ** 2 * (-0.5 / sigma**2))
    return weights / weights.sum(1, keepdim=True)


def grey_correlation(residual: Tensor, query: Tensor) -> float:
    """Between the grey values of query image and rendering, in [-1, 1]; 0 where either is flat."""
    pair = torch.stack([luma(residual + query).flatten(), luma(query).flatten()])
    pair = pair - pair.mean(1, keepdim=True)
    return F.cosine_similarity(pair[0], pair[1], dim=0).item()


class Pyramid:
    """Objectives of falling size, each reduced to the Gaussians around the current pose."""

    def __init__(self, sizes: Sequence[PhotometricObjective], depth: float):
        """`depth` of the scene in metres."""
        self._sizes, self._depth = sizes, depth
        self._culled: PhotometricObjective | None = None
        self._number, self._culled_at = -1, torch.eye(4, dtype=torch.float64)

    def at(self, pose: Tensor, blur: float) -> tuple[PhotometricObjective, bool]:
        """The smallest objective for a blur, relative to the longer side, and whether it is the largest."""
        number = 0
        while number + 1 < len(self._sizes) and blur * self._sizes[number + 1].side >= _HALVED_PX:
            number += 1
        moved = motion_rad(self._culled_at, pose, self._depth)
        if self._culled is None or number != self._number or moved > _CULLED_FOR:
            self._culled, self._number = self._sizes[number].culled(pose), number
            self._culled_at = pose.clone()
        return self._culled, number == 0


class Progress:
    """The stopping rule of a descent."""

    def __init__(self) -> None:
        self._previous, self._idle = math.inf, 0
        self._least: deque[float] = deque(maxlen=_WINDOW + 1)

    def ended(self, loss: float) -> bool:
        """Whether the loss stands still, or its minimum has not fallen over a window of steps."""
        self._idle = self._idle + 1 if abs(loss - self._previous) < _MIN_CHANGE else 0
        self._previous = loss
        self._least.append(min(loss, self._least[-1] if self._least else math.inf))
        fallen = self._least[0] - self._least[-1] >= _MIN_GAIN * self._least[-1]
        waited = len(self._least) == self._least.maxlen
        return self._idle >= _PATIENCE or (waited and not fallen)


@torch.enable_grad()  # whatever the caller disabled
def photometric_descent(
    pyramid: Pyramid, unknowns: PoseParametrization, start: Iterate, blur: float, options: DescentOptions
) -> Iterate:
    """The iterate of least loss; `blur` is the first Gaussian sigma, relative to the longer side."""
    adam, progress, best = Adam(), Progress(), start
    decay = (options.last_lr / options.lr) ** (1 / max(options.iterations, 1))
    for step in range(options.iterations):
        relative = blur * max(0.0, 1 - step / max(_FADE * options.iterations, 1))
        pose = unknowns.pose()
        objective, largest = pyramid.at(pose.detach(), relative)
        residual = objective.residual(pose)
        sigma = relative * objective.side
        loss = blurred(residual, sigma).abs().mean()
        (gradient,) = torch.autograd.grad(loss, unknowns.unknowns)
        sharp = residual.detach().abs().mean().item()
        if largest and sharp < best.loss:  # the loss of smaller images is lower
            best = Iterate(pose.detach(), sharp, residual.detach())
        # While the blur fades, the loss changes by itself.
        if sigma < _MIN_SIGMA and progress.ended(loss.item()):
            break
        unknowns.retract(options.lr * decay**step * adam.step(gradient))
    return best
