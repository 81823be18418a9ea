"""Refinement by matching: render at the estimate, match the photo against the rendering, solve for the pose.

The "Fine" rounds of GSplatLoc (IROS 2025), which its code lacks, and the render-and-match of GS-CPR (2025).
A rendering knows the depth of every pixel, so each match is a 2D-3D match; it looks at the map from where the
photo was taken, so matches are many, near and sub-pixel. They join the matches that made the estimate, each
set with the noise measured on it. No RANSAC: the window bounds what a wrong match can say, and the robust
cost ignores it.
"""

import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment import correspondences as correspondence
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.correspondences import Correspondences
from gsplatloc.localization.features import Extractor, make_extractor
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import covariance_of
from gsplatloc.localization.pose.pnp import PnPOptions, pixel_scale
from gsplatloc.localization.pose.reprojection import Observations
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap

_MIN_NOISE_PX = 0.2  # no pixel is matched better
_MIN_KEPT = 0.9  # share of the estimate's inliers that a better pose may not fall below
_PASSES = 2  # noise and pose in turn: each is measured with the other


@dataclass(frozen=True)
class FineOptions:
    """How the photo is matched against a rendering. Pixels are those of the rendering, up to 640 px wide."""

    rounds: int = 2  # renderings, each at the pose that the last one gave (paper: 5; a third gains nothing)
    max_side: int = 800  # pixels: the longer side of the rendering; larger photos are compared at this size
    match: Literal["track", "keypoints", "map"] = "track"  # corners, XFeat keypoints of both, or feature map
    window_px: float = 64.0  # how far a pixel's partner may be from the pixel itself
    count: int = 1000  # corners tracked, at most
    min_cosine: float = 0.7  # between descriptors that match
    min_alpha: float = 0.9  # a rendered pixel less opaque shows what is not mapped
    max_depth_step: float = 0.02  # relative second difference of inverse depth that is no edge yet
    min_inliers: int = 40  # fewer rendered matches that agree are no evidence
    min_inlier_share: float = 0.6  # likewise of all rendered matches
    effective: float = 1000.0  # independent matches that all rendered ones are worth: they share map errors
    prior_effective: float = 100.0  # likewise those of the estimate: fewer, as landmarks are less exact


class FineRefiner:
    """`Refiner` by matching against the rendered map."""

    name = "fine"

    def __init__(
        self,
        options: FineOptions | None = None,
        render_options: RenderOptions | None = None,
        extractor: Extractor | None = None,
    ):
        """`extractor` is used where keypoints of the rendering are matched: made then, if not given."""
        self.options = options or FineOptions()
        self.render_options = render_options or RenderOptions()
        self.extractor = extractor

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """Match and solve, `rounds` times; `initial` again, `accepted=False`, without evidence for more."""
        start = time.perf_counter()
        gaussians = splat_map.described if self.options.match == "map" else splat_map.gaussians
        estimate = initial
        for _ in range(self.options.rounds if initial.ok else 0):
            refined = self._round(query, gaussians, initial, estimate.pose())
            if refined is None:
                break
            estimate = refined
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(estimate, accepted=estimate is not initial, elapsed_ms=elapsed_ms)

    def _round(
        self, query: Query, gaussians: Gaussians, initial: PoseEstimate, pose: Tensor
    ) -> PoseEstimate | None:
        _, height, width = query.dense.shape
        size = (height, width) if self.options.match == "map" else None
        view = rendering.render_map(
            gaussians, initial.camera, pose, self.render_options, self.options.max_side, size
        )
        trusted = rendering.solid(view, self.options.min_alpha, self.options.max_depth_step)
        pairs = self._match(query, view, trusted)
        kept = rendering.inside(trusted, pairs.rendering)
        if int(kept.sum()) < self.options.min_inliers:
            return None
        points = rendering.to_world(view, rendering.lift(view, pairs.rendering[kept]))
        pixels = pairs.photo[kept].cpu() * _enlargement(view.camera, initial.camera)
        return solve(initial, pose, pixels, points, self.options)

    def _match(self, query: Query, view: rendering.Rendering, trusted: Tensor) -> Correspondences:
        options = self.options
        window = options.window_px * pixel_scale(view.camera)
        if options.match == "track":
            return correspondence.track(query.image, view, trusted, window, options.count)
        scale = _enlargement(view.camera, query.camera)
        keypoints = replace(query.keypoints, xy=query.keypoints.xy / scale.to(query.keypoints.xy))
        if options.match == "map" and view.features is not None:
            size = (view.camera.width, view.camera.height)
            return correspondence.match_map(keypoints, view.features, size, window, options.min_cosine)
        if self.extractor is None:
            self.extractor = make_extractor(device=view.rgb.device)
        image = rendering.to_image(view.rgb)
        found = self.extractor.extract(image).keypoints
        found = replace(found, xy=found.xy.to(keypoints.xy), descriptors=found.descriptors.to(keypoints.xy))
        return correspondence.match_keypoints(keypoints, found, window, options.min_cosine)


def _enlargement(small: Camera, large: Camera) -> Tensor:
    """[2] by which pixels of the one become pixels of the other."""
    return torch.tensor([large.width / small.width, large.height / small.height])


def solve(
    initial: PoseEstimate, pose: Tensor, pixels: Tensor, points: Tensor, options: FineOptions
) -> PoseEstimate | None:
    """The pose near `pose` that explains rendered matches and those of `initial`; None without evidence."""
    camera, own = initial.camera, prior_matches(initial)
    worth = min(1.0, options.effective / len(pixels))
    for _ in range(_PASSES):
        rendered = reprojection.observe(pixels, points, _noise(camera, pose, pixels, points), worth)
        joint = rendered
        if own is not None:
            noise = _noise(camera, pose, own.pixels, own.points)
            own_worth = min(1.0, options.prior_effective / len(own))
            joint = reprojection.join(
                rendered, reprojection.observe(own.pixels, own.points, noise, own_worth)
            )
        pose, information = reprojection.minimise(camera, pose, joint)
    if not _evident(initial, pose, rendered, joint, options):
        return None
    matches = _merged(initial, pose, rendered)
    return replace(
        initial,
        cam_from_world=pose,
        inliers=int(matches.inliers.sum()),
        covariance=covariance_of(information),
        information=information,
        matches=matches,
    )


def prior_matches(initial: PoseEstimate) -> Observations | None:
    """The inliers that made an estimate, where it kept them."""
    if initial.matches is None or not initial.matches.inliers.any():
        return None
    kept = initial.matches.inliers
    return reprojection.observe(
        torch.from_numpy(initial.matches.pixels[kept]), torch.from_numpy(initial.matches.points[kept])
    )


def keeps_matches(pose: Tensor, initial: PoseEstimate) -> bool:
    """Whether the inliers that made an estimate, if any, agree with `pose`, too, but for a few."""
    own = prior_matches(initial)
    return own is None or bool(_inliers(initial.camera, pose, own).sum() >= _MIN_KEPT * len(own))


def _noise(camera: Camera, pose: Tensor, pixels: Tensor, points: Tensor) -> float:
    errors = reprojection.errors_px(camera, pose, reprojection.observe(pixels, points))
    return max(reprojection.noise_px(errors), _MIN_NOISE_PX)


def _evident(
    initial: PoseEstimate, pose: Tensor, rendered: Observations, joint: Observations, options: FineOptions
) -> bool:
    """Whether enough rendered matches agree, all matches agree better, and the estimate's own still do."""
    camera = initial.camera
    agree = _inliers(camera, pose, rendered)
    enough = int(agree.sum()) >= max(options.min_inliers, options.min_inlier_share * len(rendered))
    better = reprojection.cost(camera, pose, joint) <= reprojection.cost(camera, initial.pose(), joint)
    return enough and better and keeps_matches(pose, initial)


def _inliers(camera: Camera, pose: Tensor, observations: Observations) -> Tensor:
    threshold = PnPOptions().max_error_px * pixel_scale(camera)
    return reprojection.errors_px(camera, pose, observations) < threshold


def _merged(initial: PoseEstimate, pose: Tensor, rendered: Observations) -> Matches:
    """The estimate's matches and the rendered ones, with the inliers of the new pose."""
    pixels, points = rendered.pixels.numpy(), rendered.points.numpy()
    if initial.matches is not None:
        pixels = np.concatenate([initial.matches.pixels, pixels])
        points = np.concatenate([initial.matches.points, points])
    observations = reprojection.observe(torch.from_numpy(pixels), torch.from_numpy(points))
    return Matches(pixels, points, _inliers(initial.camera, pose, observations).numpy())


@REFINERS.register("fine", FineOptions, "GSplatLoc's fine rounds: match with renderings, solve")
def make(options: FineOptions, context: StageContext) -> Refiner:
    return FineRefiner(options, extractor=context.extractor)
