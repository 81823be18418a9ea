"""Dense photometric alignment by gradient descent: render at every step, compare every pixel.

Botashev et al., "GSLoc: Visual Localization with 3D Gaussian Splatting" (2024). The L1 difference between
rendering and photo is descended by Adam on SE(3), with the rasterizer's analytic gradient of the pose. Where
that ends in a picture that still differs (PSNR below 25 dB), the search starts again with both blurred, the
blur fading as it goes: a blurred picture can be followed from further away. Beyond the paper: shifts are
counted in depths of the scene, not in metres, and a result is accepted only on evidence.

Every step renders the map, forward and back: what `lm` does in a few steps on one rendering takes hundreds of
renderings here. It is the peer that `lm` is measured against (benchmarks/convergence.py).
"""

import math
import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer import RenderOptions, render
from localization.refine import Query
from localization.refine.motion import Motion, Parametrization, make_motion
from localization.refine.rendering import luma, shrunk
from localization.result import PoseEstimate
from scene.cameras import Camera
from scene.gaussians import Gaussians
from scene.images import resize_rgb
from utils.errors import GSplatLocError

_LEAST_SIGMA = 0.3  # pixels; a narrower blur is none
_BETAS, _EPSILON = (0.9, 0.999), 1e-12  # of Adam
_SELECTED_STEPS = 25  # after which it is looked anew which Gaussians may come into view: at most 15 degrees


@dataclass(frozen=True)
class GslocOptions:
    """How rendering and photo are aligned. The paper's settings, except where said."""

    scale: float = 0.5  # of the rendering, relative to the photo (paper: 1; 1/2 and 1/4 are its ablation)
    parametrization: Parametrization = "se3"  # or "quaternion", with translation: the ablation
    iterations: int = 1000  # Adam steps of each search at most (paper: 2000); 100 to 200 are usual
    lr: float = 1e-2  # first step, radians, and depths of the scene (paper: metres)
    last_lr: float = 1e-5  # last step; exponential in between
    least_change: float = 1e-5  # of the loss, colours in [0, 1]: less is no progress
    patience: int = 3  # steps without progress, one after another, that end a search
    min_psnr: float = 25.0  # dB; below it, search again with blur
    blur: float = 0.06  # first Gaussian sigma, relative to the longer side of the picture
    fade: float = 0.5  # share of the steps over which the blur fades to nothing, linearly
    min_correlation: float = 0.5  # between photo and rendering at the end: less is another place

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1 or self.iterations < 0 or not 0 < self.last_lr <= self.lr < math.inf:
            raise GSplatLocError(
                "expected a scale in (0, 1], no negative number of steps and falling steps, found"
                f" {self.scale:g}, {self.iterations}, {self.lr:g} to {self.last_lr:g}: correct GslocOptions"
            )
        if self.parametrization not in ("se3", "quaternion"):
            raise GSplatLocError(f"expected se3 or quaternion, found {self.parametrization!r}")


@dataclass(frozen=True)
class Iterate:
    """A pose with what the rendering there looks like."""

    pose: Tensor  # [4, 4] float64
    loss: float  # mean absolute difference to the photo, colours in [0, 1]
    residual: Tensor  # [3, H, W], rendering minus photo

    @property
    def psnr(self) -> float:
        """Of the rendering against the photo, dB."""
        return -10 * math.log10(max(self.residual.square().mean().item(), 1e-12))


class GslocRefiner:
    """`Refiner` by dense photometric descent."""

    name = "gsloc"

    def __init__(self, options: GslocOptions | None = None, render_options: RenderOptions | None = None):
        self.options = options or GslocOptions()
        self.render_options = render_options or RenderOptions()

    def refine(self, query: Query, gaussians: Gaussians, prior: PoseEstimate) -> PoseEstimate:
        """Descend from `prior`; `prior` again, `improved=False`, where that gave no better picture.

        The covariance is None: a descent on L1 does not say what it is worth.
        """
        start = time.perf_counter()
        refined = self._refined(query, gaussians, prior) if prior.ok else None
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(refined or replace(prior, improved=False), elapsed_ms=elapsed_ms)

    def _refined(self, query: Query, gaussians: Gaussians, prior: PoseEstimate) -> PoseEstimate | None:
        comparison = self._comparison(query, gaussians)
        with torch.no_grad():
            at_prior, depth = comparison.look(prior.pose())
        if depth is None:
            return None
        best = self._descend(comparison, at_prior, depth, 0.0)
        if best.psnr < self.options.min_psnr and self.options.blur > 0:
            again = self._descend(comparison, at_prior, depth, self.options.blur)
            best = min(best, again, key=lambda iterate: iterate.loss)
        better = best.loss < at_prior.loss and best.psnr > at_prior.psnr
        if not better or correlation(best.residual, comparison.photo) < self.options.min_correlation:
            return None
        return replace(prior, cam_from_world=best.pose, covariance=None, improved=True)

    def _comparison(self, query: Query, gaussians: Gaussians) -> "Comparison":
        """The photo, and the map as that photo averaged to its size would show it.

        The low-pass filter was part of the map's training, in pixels of the photo: it shrinks with the image.
        """
        options, camera = self.options, query.camera
        small = shrunk(camera, round(options.scale * max(camera.width, camera.height)))
        rgb = torch.from_numpy(resize_rgb(query.image, small.width, small.height))
        photo = rgb.to(gaussians.means).permute(2, 0, 1).contiguous() / 255
        low_pass = self.render_options.low_pass * (small.width / camera.width) ** 2
        return Comparison(photo, gaussians.detach(), small, replace(self.render_options, low_pass=low_pass))

    def _descend(self, comparison: "Comparison", start: Iterate, depth: float, blur: float) -> Iterate:
        motion = make_motion(self.options.parametrization, start.pose, depth)
        return descend(comparison, motion, start, blur, self.options)


@dataclass(frozen=True)
class Comparison:
    """A photo and the map that it is compared with."""

    photo: Tensor  # [3, H, W] in [0, 1]
    gaussians: Gaussians
    camera: Camera  # of the photo at this size
    render_options: RenderOptions

    def residual(self, pose: Tensor) -> Tensor:
        """Rendering minus photo [3, H, W], differentiable in `pose` [4, 4] alone."""
        return render(self.gaussians, self.camera, pose, self.render_options).rgb - self.photo

    def look(self, pose: Tensor) -> tuple[Iterate, float | None]:
        """What there is to see at a pose, and its median depth; None where there is nothing."""
        result = render(self.gaussians, self.camera, pose, self.render_options)
        residual = result.rgb - self.photo
        seen = result.depth[result.alpha > 0.5]
        depth = seen.median().item() if len(seen) else None
        return Iterate(pose, residual.abs().mean().item(), residual), depth

    @torch.no_grad()
    def around(self, pose: Tensor) -> "Comparison":
        """The same with only those Gaussians that a camera twice as wide and high would see from a pose.

        Most of a step's time is projection, of Gaussians of which most are elsewhere.
        """
        camera = self.camera
        wide = Camera(
            2 * camera.width, 2 * camera.height, camera.fx, camera.fy,
            camera.cx + 0.5 * camera.width, camera.cy + 0.5 * camera.height,
        )  # fmt: skip
        seen = render(self.gaussians, wide, pose, self.render_options).radii > 0
        return replace(self, gaussians=self.gaussians.select(seen))


@torch.enable_grad()  # whatever the caller switched off
def descend(
    comparison: Comparison, motion: Motion, start: Iterate, blur: float, options: GslocOptions
) -> Iterate:
    """The iterate that looks most like the photo; `blur` is the first sigma, relative to the longer side."""
    optimizer = Adam(motion.unknowns)
    decay = (options.last_lr / options.lr) ** (1 / max(options.iterations, 1))
    side = max(comparison.photo.shape)
    best, previous, idle = start, math.inf, 0
    for step in range(options.iterations):
        faded = step / max(options.fade * options.iterations, 1)
        sigma = blur * side * max(0.0, 1 - faded)
        pose = motion.pose()
        if step % _SELECTED_STEPS == 0:
            nearby = comparison.around(pose.detach())
        residual = nearby.residual(pose)
        loss = blurred(residual, sigma).abs().mean()
        (gradient,) = torch.autograd.grad(loss, motion.unknowns)
        sharp = residual.detach().abs().mean().item()
        if sharp < best.loss:
            best = Iterate(pose.detach(), sharp, residual.detach())
        if sigma < _LEAST_SIGMA:  # while the blur fades, the loss changes by itself
            idle = idle + 1 if abs(loss.item() - previous) < options.least_change else 0
            previous = loss.item()
        if idle >= options.patience:
            break
        optimizer.step(gradient, options.lr * decay**step)
        motion.settle()
    return best


class Adam:
    """Adam (Kingma & Ba 2015) of a handful of unknowns: torch's own imports its compiler, for seconds."""

    def __init__(self, unknowns: Tensor):
        self._unknowns = unknowns
        self._mean, self._square = (torch.zeros_like(unknowns, requires_grad=False) for _ in range(2))
        self._steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """Move the unknowns in place."""
        self._steps += 1
        self._mean.lerp_(gradient, 1 - _BETAS[0])
        self._square.lerp_(gradient * gradient, 1 - _BETAS[1])
        mean = self._mean / (1 - _BETAS[0] ** self._steps)
        deviation = (self._square / (1 - _BETAS[1] ** self._steps)).sqrt()
        self._unknowns -= rate * mean / (deviation + _EPSILON)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [C, H, W]. Blurring is linear: of a difference it is the difference of both, blurred.

    Two products with banded matrices: as fast for any sigma, and the gradient is two more.
    """
    if sigma < _LEAST_SIGMA:
        return image
    rows, columns = (_blur_matrix(size, sigma).to(image) for size in image.shape[1:])
    return rows @ image @ columns.T


def _blur_matrix(size: int, sigma: float) -> Tensor:
    """[size, size], every row a Gaussian of sum 1: near the border the picture ends, and does not darken."""
    index = torch.arange(size, dtype=torch.float32)
    weights = torch.exp((index[:, None] - index) ** 2 * (-0.5 / sigma**2))
    return weights / weights.sum(1, keepdim=True)


def correlation(residual: Tensor, photo: Tensor) -> float:
    """Between the grey values of photo and rendering, in [-1, 1]; 0 where either is flat."""
    pair = torch.stack([luma(residual + photo).flatten(), luma(photo).flatten()])
    pair = pair - pair.mean(1, keepdim=True)
    return F.cosine_similarity(pair[0], pair[1], dim=0).item()
