"""Refinement by warping: render once at the estimate, then move the rendering until it meets the photo.

Sidorov et al., "GSplatLoc: Grounding Keypoint Descriptors into 3D Gaussian Splatting for Improved Visual
Localization" (IROS 2025): photometric and feature residuals, Adam over the 6-vector of a pose. Beyond the
paper: robust loss, exposure solved jointly, a coarse and a fine level, steps of equal image motion in every
direction (a turn and a shift look alike indoors: plain Adam crawls along that valley), and what the estimate
itself is worth as a prior. The best iterate is kept; it is accepted only if it also explains the estimate's
own matches.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.adam import descend, fit_exposure, image_motion
from gsplatloc.localization.alignment.warp_objective import POSE, Alignment, Scales, feature_table
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import assumed_covariance
from gsplatloc.localization.pose.estimates import independent_information
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

_MIN_SAMPLES = 100  # fewer trusted pixels cannot hold a pose against the map's artefacts
_MAX_ERROR_GROWTH = 1.1  # of the median reprojection error of the estimate's own inliers
_FREE_GROWTH_PX = 0.1  # growth that no one can call worse


@dataclass(frozen=True)
class WarpOptions:
    """How the rendering is warped into the photo. Defaults are for indoor scenes in metres."""

    lr: float = 1e-3  # radians of view per Adam step, in every direction (paper: 1e-3 m and rad)
    iterations: int = 250  # Adam steps at most, over all levels (paper: 250 indoors, 350 outdoors)
    patience: int = 5  # steps without progress before the learning rate falls to a third
    blurs: tuple[float, ...] = (3.0, 1.0)  # Gaussian sigma of each level, pixels of the rendering
    renders: int = 2  # at most: the second where the first was warped too far to be true
    rerender: float = 0.02  # radians of view that a rendering may be warped before that
    max_side: int = 320  # pixels: the longer side of the rendering; the photo is averaged to this size
    samples: int = 3000  # pixels compared, the strongest gradients of as many small blocks
    feature_samples: int = 800  # of them, those whose descriptors are compared too; 0 = colour only
    feature_weight: float = 0.3  # of the feature term relative to the photometric one
    min_alpha: float = 0.9  # a rendered pixel less opaque shows what is not mapped
    max_depth_step: float = 0.01  # relative second difference of inverse depth that is no edge yet
    effective: float = 1000.0  # independent observations that all pixels are worth: neighbours share errors

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf) or self.iterations < 0:
            raise GSplatLocError(
                f"expected a positive step and no negative number of them, found {self.lr:g} and"
                f" {self.iterations}: see --warp_lr and --warp_iters"
            )


class WarpRefiner:
    """`Refiner` by photometric and feature alignment."""

    name = "warp"

    def __init__(self, options: WarpOptions | None = None, render_options: RenderOptions | None = None):
        self.options = options or WarpOptions()
        self.render_options = render_options or RenderOptions()

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """Align a rendering at `initial` with the query; `initial`, `accepted=False`, where that fails."""
        start = time.perf_counter()
        refined = self._refined(query, splat_map.described, initial) if initial.ok else None
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(refined or replace(initial, accepted=False), elapsed_ms=elapsed_ms)

    @torch.no_grad()
    def _refined(self, query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate | None:
        """Align, and render again wherever the warp went further than a rendering can be bent."""
        view = self._render(query, gaussians, initial.pose())
        best = align(query, view, initial, self.options)
        nearby = replace(self.options, blurs=self.options.blurs[-1:])
        for _ in range(self.options.renders - 1):
            if best is None or rendering.view_motion(view, best.pose()) < self.options.rerender:
                break
            view = self._render(query, gaussians, best.pose())
            best = align(query, view, initial, nearby) or best
        return best

    def _render(self, query: Query, gaussians: Gaussians, pose: Tensor) -> rendering.Rendering:
        options = self.options
        size = (query.dense.shape[1], query.dense.shape[2]) if options.feature_samples else None
        view = rendering.render_map(
            gaussians, query.camera, pose, self.render_options, options.max_side, size
        )
        # Hundreds of small steps in a row follow, each waiting for the last: no work for a GPU.
        return view.to("cpu")


def align(
    query: Query, view: rendering.Rendering, initial: PoseEstimate, options: WarpOptions
) -> PoseEstimate | None:
    """The estimate that moves `view`, rendered near `initial`, onto the query; None if it is no better."""
    samples = choose_samples(view, options)
    if len(samples) < _MIN_SAMPLES:
        return None
    parameters = torch.zeros(POSE + 2, dtype=view.rgb.dtype, device=view.rgb.device)
    blurs = _levels(view, samples, initial, options)
    for blur in blurs:
        alignment = _prepare(query, view, samples, blur, initial, parameters, options)
        budget = options.iterations // len(blurs)
        parameters = descend(
            alignment, fit_exposure(alignment, parameters), options.lr, options.patience, budget
        )
    at_prior = fit_exposure(alignment, F.pad(alignment.anchor, (0, 2)))
    if alignment.evaluate(parameters)[0] >= alignment.evaluate(at_prior)[0]:
        return None
    pose = se3.se3_exp(parameters[:POSE].double().cpu()) @ view.cam_from_world
    if not _explains_matches(initial, pose):
        return None
    covariance = assumed_covariance(alignment.curvature(parameters))[:POSE, :POSE]
    return replace(initial, cam_from_world=pose, covariance=covariance, information=None, accepted=True)


def _levels(
    view: rendering.Rendering, samples: Tensor, initial: PoseEstimate, options: WarpOptions
) -> tuple[float, ...]:
    """The blurs to go through: the coarse ones only where the estimate may be further off than the last."""
    if initial.covariance is None:
        return options.blurs
    motion = image_motion(view.camera, rendering.lift(view, samples))
    square = torch.trace(motion @ initial.covariance.double().cpu()).clamp(min=0).item()
    off_px = view.camera.fx * square**0.5
    return options.blurs if off_px > options.blurs[-1] else options.blurs[-1:]


def choose_samples(view: rendering.Rendering, options: WarpOptions) -> Tensor:
    """Pixels [P, 2] of the rendering worth comparing, strongest first: trusted, textured and spread out."""
    grey = _blur(view.grey, options.blurs[-1])
    dy, dx = torch.gradient(grey)
    margin = 4  # pixels: samples at the border leave the photo with the first step
    trusted = rendering.solid(view, options.min_alpha, options.max_depth_step)
    strength = torch.hypot(dx, dy) * trusted
    strength = F.pad(strength[margin:-margin, margin:-margin], (margin,) * 4)
    block = max(2, round((grey.numel() / options.samples) ** 0.5))
    best, index = F.max_pool2d(strength[None, None], block, return_indices=True)
    order = best.flatten().argsort(descending=True)
    index = index.flatten()[order][: int((best > 0).sum())]
    width = grey.shape[1]
    return torch.stack([index % width, index // width], 1).to(grey) + 0.5


def _prepare(
    query: Query,
    view: rendering.Rendering,
    samples: Tensor,
    blur: float,
    initial: PoseEstimate,
    parameters: Tensor,
    options: WarpOptions,
) -> Alignment:
    """The cost at one level of blur; its noise is that at `parameters`, so it shrinks with the levels."""
    camera = view.camera
    image = _blur(torch.from_numpy(rendering.photo_grey(query.image, camera)).to(view.rgb), blur)
    grey = rendering.sample(_blur(view.grey, blur)[None], samples)[:, 0]
    points = rendering.lift(view, samples).T.contiguous()
    table = None
    if view.features is not None and options.feature_samples:
        chosen = slice(0, options.feature_samples)
        cells = samples[chosen] * samples.new_tensor(
            [view.features.shape[2] / camera.width, view.features.shape[1] / camera.height]
        )
        descriptors = F.normalize(rendering.sample(view.features, cells), dim=1)
        table = feature_table(query.dense.to(view.rgb), camera, points[:, chosen], descriptors)
    scales = Scales(options.feature_weight, options.effective)
    anchor = se3.se3_log(initial.pose() @ se3.inverse(view.cam_from_world)).to(grey)
    information = independent_information(initial).to(grey)
    alignment = Alignment(camera, image, points, grey, table, scales, anchor, information)
    return alignment.with_measured_noise(fit_exposure(alignment, parameters))


def _blur(grey: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [H, W]."""
    if sigma <= 0:
        return grey
    radius = max(1, round(3 * sigma))
    offset = torch.arange(-radius, radius + 1, dtype=grey.dtype, device=grey.device)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    padded = F.pad(grey[None, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[:, :, None]), kernel[:, :, :, None])[0, 0]


def _explains_matches(initial: PoseEstimate, pose: Tensor) -> bool:
    """Whether the matches that made the estimate still agree: a guard against artefacts of the map."""
    if initial.matches is None or not initial.matches.inliers.any():
        return True
    kept = initial.matches.inliers
    pixels, points = (
        torch.from_numpy(array[kept]) for array in (initial.matches.pixels, initial.matches.points)
    )
    matches = reprojection.observe(pixels, points)
    before = reprojection.errors_px(initial.camera, initial.pose(), matches).median().item()
    after = reprojection.errors_px(initial.camera, pose, matches).median().item()
    return after <= _MAX_ERROR_GROWTH * before + _FREE_GROWTH_PX


@REFINERS.register("warp", WarpOptions, "GSplatLoc's refinement: warp one rendering, Adam on SE(3)")
def make(options: WarpOptions, context: StageContext) -> Refiner:
    return WarpRefiner(options)
