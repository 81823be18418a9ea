"""Dense photometric alignment by gradient descent: render at every step, compare every pixel.

Botashev et al., "GSLoc: Visual Localization with 3D Gaussian Splatting" (2024). The L1 difference between
rendering and photo is descended by Adam on SE(3), with the rasterizer's analytic gradient of the pose. Where
that ends in a picture that still differs (PSNR below 25 dB), the search starts again with both blurred, the
blur fading as it goes: a blurred picture can be followed from further away. Beyond the paper: shifts are
counted in depths of the scene, not in metres; a picture that correlates with the photo is not searched for
again, as where photos are exposed differently none reaches 25 dB; as long as the blur leaves nothing that a
smaller picture would not show, that is rendered; a search that gains nothing ends; and a result is accepted
only on evidence.

Every step renders the map, forward and back: what `lm` does in a few steps on one rendering takes hundreds of
renderings here. It is the peer that `lm` is measured against (benchmarks/convergence.py).
"""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment.parametrization import Adam, Motion, Parametrization, make_motion
from gsplatloc.localization.alignment.photometric import (
    LEAST_SIGMA,
    Comparison,
    Iterate,
    blurred,
    compared,
    correlation,
)
from gsplatloc.localization.alignment.photometric_covariance import photometric_covariance
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

_SELECTED_FOR = 0.15  # radians of view that the camera may move until Gaussians are selected anew
_SIZES = 2  # of pictures, each half of the one before


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
    window: int = 25  # steps over which the least loss must fall by
    least_gain: float = 1e-3  # of itself: less ends the search, too (not in the paper)
    min_psnr: float = 25.0  # dB; below it, search again with blur
    blur: float = 0.06  # first Gaussian sigma, relative to the longer side of the picture
    fade: float = 0.5  # share of the steps over which the blur fades to nothing, linearly
    halved_px: float = 1.5  # pixels of a picture of half the size that the blur must be for that to be used
    enough_correlation: float = 0.75  # between photo and rendering: no search with blur, whatever the PSNR
    min_correlation: float = 0.5  # likewise at the end: less is another place

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1 or self.iterations < 0 or not 0 < self.last_lr <= self.lr < math.inf:
            raise GSplatLocError(
                "expected a scale in (0, 1], no negative number of steps and falling steps, found"
                f" {self.scale:g}, {self.iterations}, {self.lr:g} to {self.last_lr:g}: correct GslocOptions"
            )
        if min(self.patience, self.window) < 1 or not self.halved_px > 0:
            raise GSplatLocError(
                "expected a patience and a window of at least one step and halved_px above 0, found"
                f" {self.patience}, {self.window}, {self.halved_px:g}: correct GslocOptions"
            )
        if not (0 <= self.blur < math.inf and 0 < self.fade <= 1):
            raise GSplatLocError(
                "expected a blur of at least 0 that fades over a share of the steps in (0, 1], found"
                f" {self.blur:g}, {self.fade:g}: correct GslocOptions"
            )
        if self.parametrization not in ("se3", "quaternion"):
            raise GSplatLocError(f"expected se3 or quaternion, found {self.parametrization!r}")


class GslocRefiner:
    """`Refiner` by dense photometric descent."""

    name = "gsloc"

    def __init__(self, options: GslocOptions | None = None, render_options: RenderOptions | None = None):
        self.options = options or GslocOptions()
        self.render_options = render_options or RenderOptions()

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """Descend from `initial`; `initial` again, `accepted=False`, where that gave no better picture."""
        start = time.perf_counter()
        refined = self._refined(query, splat_map.gaussians, initial) if initial.ok else None
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(refined or replace(initial, accepted=False), elapsed_ms=elapsed_ms)

    def _refined(self, query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate | None:
        options, sizes = self.options, self._sizes(query, gaussians)
        with torch.no_grad():
            at_prior, depth = sizes[0].look(initial.pose())
        if depth is None:
            return None
        best = self._descend(sizes, at_prior, depth, 0.0)
        alike = correlation(best.residual, sizes[0].photo) >= options.enough_correlation
        if best.psnr < options.min_psnr and not alike and options.blur > 0:
            again = self._descend(sizes, at_prior, depth, options.blur)
            best = min(best, again, key=lambda iterate: iterate.loss)
        better = best.loss < at_prior.loss and best.psnr > at_prior.psnr
        if not better or correlation(best.residual, sizes[0].photo) < options.min_correlation:
            return None
        seen = sizes[0]
        covariance = photometric_covariance(query, gaussians, best.pose, seen.camera, seen.render_options)
        return replace(
            initial, cam_from_world=best.pose, covariance=covariance, information=None, accepted=True
        )

    def _sizes(self, query: Query, gaussians: Gaussians) -> list[Comparison]:
        """Photo and map at the size of the options, and at half of it."""
        scales = (self.options.scale * 0.5**size for size in range(_SIZES))
        return [compared(query, gaussians, scale, self.render_options) for scale in scales]

    def _descend(self, sizes: Sequence[Comparison], start: Iterate, depth: float, blur: float) -> Iterate:
        motion = make_motion(self.options.parametrization, start.pose, depth)
        return descend(Pyramid(sizes, depth), motion, start, blur, self.options)


class Pyramid:
    """Comparisons of falling size, each reduced to the Gaussians around where the camera is."""

    def __init__(self, sizes: Sequence[Comparison], depth: float):
        """`depth` of the scene in metres."""
        self._sizes, self._depth = sizes, depth
        self._nearby: Comparison | None = None
        self._number, self._selected_at = -1, torch.eye(4, dtype=torch.float64)

    def at(self, pose: Tensor, blur: float, halved_px: float) -> tuple[Comparison, bool]:
        """The smallest that shows what a blur leaves, relative to the longer side; if it is the largest."""
        number = 0
        while number + 1 < len(self._sizes) and blur * _side(self._sizes[number + 1]) >= halved_px:
            number += 1
        if self._nearby is None or number != self._number or self._moved(pose) > _SELECTED_FOR:
            self._nearby, self._number = self._sizes[number].around(pose), number
            self._selected_at = pose.clone()
        return self._nearby, number == 0

    def _moved(self, pose: Tensor) -> float:
        """Since the last selection, in radians of view."""
        xi = se3.se3_log(pose @ se3.inverse(self._selected_at))
        return (torch.linalg.norm(xi[:3]) / self._depth + torch.linalg.norm(xi[3:])).item()


class Progress:
    """Whether a search still gains anything."""

    def __init__(self, options: GslocOptions):
        self._options = options
        self._previous, self._idle = math.inf, 0
        self._least: deque[float] = deque(maxlen=options.window + 1)

    def ended(self, loss: float) -> bool:
        """Of a search that came to this loss now: it stands still, or has not fallen for long."""
        options = self._options
        self._idle = self._idle + 1 if abs(loss - self._previous) < options.least_change else 0
        self._previous = loss
        self._least.append(min(loss, self._least[-1] if self._least else math.inf))
        fallen = self._least[0] - self._least[-1] >= options.least_gain * self._least[-1]
        waited = len(self._least) == self._least.maxlen
        return self._idle >= options.patience or (waited and not fallen)


@torch.enable_grad()  # whatever the caller switched off
def descend(pyramid: Pyramid, motion: Motion, start: Iterate, blur: float, options: GslocOptions) -> Iterate:
    """The iterate that looks most like the photo; `blur` is the first sigma, relative to the longer side."""
    optimizer, progress = Adam(motion.unknowns), Progress(options)
    decay = (options.last_lr / options.lr) ** (1 / max(options.iterations, 1))
    best = start
    for step in range(options.iterations):
        faded = step / max(options.fade * options.iterations, 1)
        relative = blur * max(0.0, 1 - faded)
        pose = motion.pose()
        comparison, largest = pyramid.at(pose.detach(), relative, options.halved_px)
        residual = comparison.residual(pose)
        sigma = relative * _side(comparison)
        loss = blurred(residual, sigma).abs().mean()
        (gradient,) = torch.autograd.grad(loss, motion.unknowns)
        sharp = residual.detach().abs().mean().item()
        if largest and sharp < best.loss:  # pictures of other sizes differ by less
            best = Iterate(pose.detach(), sharp, residual.detach())
        if sigma < LEAST_SIGMA and progress.ended(loss.item()):  # a fading blur changes the loss by itself
            break
        optimizer.step(gradient, options.lr * decay**step)
        motion.settle()
    return best


def _side(comparison: Comparison) -> int:
    return max(comparison.camera.width, comparison.camera.height)


@REFINERS.register("gsloc", GslocOptions, "GSLoc: photometric descent, a rendering at every step")
def make(options: GslocOptions, context: StageContext) -> Refiner:
    return GslocRefiner(options)
