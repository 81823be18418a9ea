"""Refinement by warping: render once at the estimate, then move the rendering until it meets the photo.

Sidorov et al., "GSplatLoc: Grounding Keypoint Descriptors into 3D Gaussian Splatting for Improved Visual
Localization" (IROS 2025): photometric and feature residuals, Adam over the 6-vector of a pose. Beyond the
paper: robust loss, exposure solved jointly, a coarse and a fine level, steps of equal image motion in every
direction (a turn and a shift look alike indoors: plain Adam crawls along that valley), and what the estimate
itself is worth as a prior. The best iterate is kept; it is accepted only if it also explains the estimate's
own matches.
"""

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer import RenderOptions
from localization.pnp import projection_jacobian
from localization.refine import Query, rendering, reprojection
from localization.refine.alignment import POSE, Alignment, Scales, feature_table
from localization.refine.correspondence import normalised_contrast
from localization.result import PoseEstimate
from scene.cameras import Camera
from scene.gaussians import Gaussians
from utils import se3

_MIN_SAMPLES = 100  # fewer trusted pixels cannot hold a pose against the map's artefacts
_BETAS = (0.9, 0.99)  # of Adam
_MIN_RATE = 0.01  # of the first learning rate; below it nothing moves any more
_MAX_ERROR_GROWTH = 1.1  # of the median reprojection error of the estimate's own inliers
_FREE_GROWTH_PX = 0.1  # growth that no one can call worse


@dataclass(frozen=True)
class WarpOptions:
    """How the rendering is warped into the photo. Defaults are for indoor scenes in metres."""

    lr: float = 1e-3  # radians of view per Adam step, in every direction (paper: 1e-3 m and rad)
    iterations: int = 250  # Adam steps at most, over all levels (paper: 250 indoors, 350 outdoors)
    patience: int = 8  # steps without progress before the learning rate falls to a third
    blurs: tuple[float, ...] = (3.0, 1.0)  # Gaussian sigma of each level, pixels of the rendering
    renders: int = 2  # at most: the second where the first was warped too far to be true
    rerender: float = 0.02  # radians of view that a rendering may be warped before that
    contrast: float = 4.0  # sigma of the neighbourhood of normalised contrast, pixels; 0 = compare grey values
    downscale: int = 2  # the rendering is this much smaller than the photo
    samples: int = 3000  # pixels compared, the strongest gradients of as many small blocks
    feature_samples: int = 800  # of them, those whose descriptors are compared too; 0 = colour only
    feature_weight: float = 0.3  # of the feature term relative to the photometric one
    min_alpha: float = 0.9  # a rendered pixel less opaque shows what is not mapped
    max_depth_step: float = 0.01  # relative second difference of inverse depth that is no edge yet
    effective: float = 100.0  # independent observations that all pixels together are worth against the prior


class WarpRefiner:
    """`Refiner` by photometric and feature alignment."""

    name = "warp"

    def __init__(self, options: WarpOptions | None = None, render_options: RenderOptions | None = None):
        self.options = options or WarpOptions()
        self.render_options = render_options or RenderOptions()

    def refine(self, query: Query, gaussians: Gaussians, prior: PoseEstimate) -> PoseEstimate:
        """Align a rendering at `prior` with the photo; `prior` again, `improved=False`, where that fails."""
        start = time.perf_counter()
        refined = self._refined(query, gaussians, prior) if prior.ok else None
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(refined or replace(prior, improved=False), elapsed_ms=elapsed_ms)

    @torch.no_grad()
    def _refined(self, query: Query, gaussians: Gaussians, prior: PoseEstimate) -> PoseEstimate | None:
        """Align, and render again wherever the warp went further than a rendering can be bent."""
        view = self._render(query, gaussians, prior.pose())
        best = align(query, view, prior, self.options)
        nearby = replace(self.options, blurs=self.options.blurs[-1:])
        for _ in range(self.options.renders - 1):
            if best is None or _view_motion(view, best.pose()) < self.options.rerender:
                break
            view = self._render(query, gaussians, best.pose())
            best = align(query, view, prior, nearby) or best
        return best

    def _render(self, query: Query, gaussians: Gaussians, pose: Tensor) -> rendering.Rendering:
        options = self.options
        size = (query.dense.shape[1], query.dense.shape[2]) if options.feature_samples else None
        return rendering.render_map(
            gaussians, query.camera, pose, self.render_options, size, options.downscale
        )


def align(
    query: Query, view: rendering.Rendering, prior: PoseEstimate, options: WarpOptions
) -> PoseEstimate | None:
    """The estimate that moves `view`, rendered near `prior`, onto the photo; None where `prior` is better."""
    samples = choose_samples(view, options)
    if len(samples) < _MIN_SAMPLES:
        return None
    parameters = torch.zeros(POSE + 2, dtype=view.rgb.dtype, device=view.rgb.device)
    for blur in options.blurs:
        alignment = _prepare(query, view, samples, blur, prior, parameters, options)
        budget = options.iterations // len(options.blurs)
        parameters = descend(alignment, fit_exposure(alignment, parameters), options, budget)
    at_prior = fit_exposure(alignment, F.pad(alignment.anchor, (0, 2)))
    if alignment.evaluate(parameters)[0] >= alignment.evaluate(at_prior)[0]:
        return None
    pose = se3.se3_exp(parameters[:POSE].double().cpu()) @ view.cam_from_world
    if not _explains_matches(prior, pose):
        return None
    hessian = alignment.curvature(parameters).double().cpu()
    covariance = torch.linalg.pinv(hessian, hermitian=True)[:POSE, :POSE]
    return replace(prior, cam_from_world=pose, covariance=covariance, improved=True)


def _view_motion(view: rendering.Rendering, pose: Tensor) -> float:
    """How far the middle of a rendering moves from its pose to `pose`, in radians of view."""
    height, width = view.depth.shape
    middle = view.depth[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    depth = middle[middle > 0].median().item() if bool((middle > 0).any()) else 1.0
    xi = se3.se3_log(pose @ se3.inverse(view.cam_from_world))
    return (torch.linalg.norm(xi[:3]) / depth + torch.linalg.norm(xi[3:])).item()


def prior_information(prior: PoseEstimate) -> Tensor:
    """Inverse covariance [6, 6] float64 of an estimate, zero where it states none."""
    if prior.covariance is None:
        return torch.zeros(POSE, POSE, dtype=torch.float64)
    return torch.linalg.pinv(prior.covariance.double().cpu(), hermitian=True)


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
    prior: PoseEstimate,
    parameters: Tensor,
    options: WarpOptions,
) -> Alignment:
    """The cost at one level of blur; noise is measured at `parameters`, so that it shrinks level by level."""
    camera = view.camera
    image = _blur(_contrast(_photo(query.image, camera), options.contrast).to(view.rgb), blur)
    rendered = _contrast(view.grey, options.contrast)
    grey = rendering.sample(_blur(rendered, blur)[None], samples)[:, 0]
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
    anchor = se3.se3_log(prior.pose() @ se3.inverse(view.cam_from_world)).to(grey)
    alignment = Alignment(
        camera, image, points, grey, table, scales, anchor, prior_information(prior).to(grey)
    )
    return alignment.with_measured_noise(fit_exposure(alignment, parameters))


def _photo(image: np.ndarray, camera: Camera) -> Tensor:
    """[H, W, 3] uint8 -> grey [h, w] in [0, 1] of the camera's size, averaged where it shrinks."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if grey.shape != (camera.height, camera.width):
        grey = cv2.resize(grey, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(grey).float() / 255


def _contrast(grey: Tensor, sigma: float) -> Tensor:
    """Locally normalised contrast [H, W] as grey values around 0.5; `grey` itself where sigma is 0."""
    if sigma <= 0:
        return grey
    return torch.from_numpy(0.5 + 0.2 * normalised_contrast(grey.cpu().numpy(), sigma)).to(grey)


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


def fit_exposure(alignment: Alignment, parameters: Tensor) -> Tensor:
    """`parameters` with the gain and bias that best explain the grey values there, robustly."""
    photo, grey = alignment.photo_grey(parameters), alignment.grey
    weight = torch.ones_like(grey)
    design = torch.stack([grey, torch.ones_like(grey)], 1)
    solution = grey.new_tensor([1.0, 0.0])
    for _ in range(3):
        normal = design.T @ (design * weight[:, None])
        normal += 1e-6 * len(grey) * torch.eye(2, dtype=grey.dtype, device=grey.device)
        solution = torch.linalg.solve(normal, design.T @ (photo * weight) + 1e-6 * len(grey) * solution)
        residual = photo - design @ solution
        spread = 1.4826 * residual.abs().median() + 1e-6
        weight = 1 / (1 + (residual / (2 * spread)) ** 2) ** 2
    return torch.cat([parameters[:POSE], solution - solution.new_tensor([1.0, 0.0])])


def descend(alignment: Alignment, start: Tensor, options: WarpOptions, budget: int) -> Tensor:
    """The best parameters [8] met by `budget` steps of preconditioned Adam."""
    directions = preconditioner(alignment)
    parameters = best = start
    lowest, rate, stale = float("inf"), options.lr, 0
    mean, square, count = torch.zeros_like(start), torch.zeros_like(start), 0
    for _ in range(budget):
        cost, gradient = alignment.evaluate(parameters)
        stale += 1
        if cost < lowest:
            stale = 0 if cost < lowest * (1 - 1e-4) else stale
            lowest, best = cost, parameters
        if stale >= options.patience:
            rate, stale, count, parameters = rate / 3, 0, 0, best
            if rate < _MIN_RATE * options.lr:
                break
            _, gradient = alignment.evaluate(best)
        if count == 0:
            mean, square = torch.zeros_like(start), torch.zeros_like(start)
        count += 1
        along = directions.T @ gradient
        mean = _BETAS[0] * mean + (1 - _BETAS[0]) * along
        square = _BETAS[1] * square + (1 - _BETAS[1]) * along * along
        step = mean / (1 - _BETAS[0] ** count) / ((square / (1 - _BETAS[1] ** count)).sqrt() + 1e-12)
        parameters = parameters - rate * (directions @ step)
    return best


def preconditioner(alignment: Alignment) -> Tensor:
    """Directions [8, 8], the first six of which move the samples' pixels equally, by one radian of view.

    A learning rate then is an angle of view per step along every direction, be it a turn, a shift, or the
    difference of the two, which moves hardly any pixel.
    """
    jacobian = projection_jacobian(alignment.points.T.double().cpu(), alignment.camera).flatten(0, 1)
    motion = jacobian.T @ jacobian / alignment.grey.numel() / alignment.camera.fx**2
    values, vectors = torch.linalg.eigh(motion)
    directions = torch.eye(POSE + 2, dtype=torch.float64)
    directions[:POSE, :POSE] = vectors / values.clamp(min=1e-8 * values.max()).sqrt()
    return directions.to(alignment.points)


def _explains_matches(prior: PoseEstimate, pose: Tensor) -> bool:
    """Whether the matches that made the estimate still agree: a guard against artefacts of the map."""
    if prior.matches is None or not prior.matches.inliers.any():
        return True
    kept = prior.matches.inliers
    pixels, points = (torch.from_numpy(array[kept]) for array in (prior.matches.pixels, prior.matches.points))
    matches = reprojection.observe(pixels, points)
    before = reprojection.errors_px(prior.camera, prior.pose(), matches).median().item()
    after = reprojection.errors_px(prior.camera, pose, matches).median().item()
    return after <= _MAX_ERROR_GROWTH * before + _FREE_GROWTH_PX
