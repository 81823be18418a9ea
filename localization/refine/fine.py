"""Refinement by matching: render at the initial pose, match the query with the rendering, solve for the pose.

The "Fine" rounds of GSplatLoc (IROS 2025), which its code lacks, and the render-and-match of GS-CPR (2025).
The rendered depth turns each match into a 2D-3D match; since query and rendering show nearly the same view,
matches are many, near and sub-pixel. They are joined with the inliers of the initial pose, each set with the
noise measured on it. RANSAC is not needed: the search window bounds the error of a wrong match, and the
robust cost ignores it.
"""

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.alignment import correspondences as correspondence
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.correspondences import Correspondences
from gsplatloc.localization.features import Extractor
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.estimates import (
    inlier_observations,
    keeps_inliers,
    with_camera_error,
    with_inliers,
)
from gsplatloc.localization.pose.reprojection import Observations
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner, StageContext
from gsplatloc.localization.refine.members import FineOptions
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError

_WINDOW_PX = 64.0  # distance of a pixel's partner from the pixel itself, at most, at 640 px
_CORNERS = 1000  # tracked, at most
_MIN_COSINE = 0.7  # between descriptors that match
_VALID_DEPTH = rendering.ValidDepth(min_alpha=0.9, max_depth_step=0.02)
_MIN_INLIER_SHARE = 0.6  # of the rendered matches
_INITIAL_SAMPLE_SIZE = 100.0  # effective sample size of the initial pose's inliers: landmarks are less exact
_MIN_NOISE_PX = 0.2  # of a match: no pixel is matched better
_PASSES = 2  # noise and pose in turn: each is measured with the other


class FineRefiner:
    """`Refiner` by matching with the rendered map."""

    name = "fine"
    verifies = False

    def __init__(self, options: FineOptions | None = None, extractor: Extractor | None = None):
        """`extractor` of keypoints in renderings, for `match="keypoints"`."""
        self.options = options or FineOptions()
        self.extractor = extractor

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """Match and solve, `rounds` times; `initial` with `accepted=False` if no round is accepted."""
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
        view = rendering.render_map(gaussians, initial.camera, pose, self.options.max_side, size)
        valid = rendering.valid_depth_mask(view, _VALID_DEPTH)
        pairs = self._match(query, view, valid)
        kept = rendering.inside(valid, pairs.rendering)
        if int(kept.sum()) < self.options.min_inliers:
            return None
        points = rendering.to_world(view, rendering.lift(view, pairs.rendering[kept]))
        pixels = pairs.query[kept].cpu() * _enlargement(view.camera, initial.camera)
        return solve(initial, pose, pixels, points, self.options)

    def _match(self, query: Query, view: rendering.Rendering, valid: Tensor) -> Correspondences:
        window = _WINDOW_PX * reprojection.pixel_scale(view.camera)
        if self.options.match == "track":
            return correspondence.track(query.image, view, valid, window, _CORNERS)
        scale = _enlargement(view.camera, query.camera)
        keypoints = replace(query.keypoints, xy=query.keypoints.xy / scale.to(query.keypoints.xy))
        if self.options.match == "map":
            if view.features is None:
                raise GSplatLocError("expected descriptors in the map, found none: choose --fine.match track")
            size = (view.camera.width, view.camera.height)
            return correspondence.match_map(keypoints, view.features, size, window, _MIN_COSINE)
        if self.extractor is None:
            raise GSplatLocError("expected an extractor to match keypoints, found none: pass one")
        image = rendering.to_image(view.rgb)
        found = self.extractor.extract(image).keypoints
        found = replace(found, xy=found.xy.to(keypoints.xy), descriptors=found.descriptors.to(keypoints.xy))
        return correspondence.match_keypoints(keypoints, found, window, _MIN_COSINE)


def _enlargement(small: Camera, large: Camera) -> Tensor:
    """[2] factors from pixels of the small camera to pixels of the large one."""
    return torch.tensor([large.width / small.width, large.height / small.height])


def solve(
    initial: PoseEstimate, pose: Tensor, pixels: Tensor, points: Tensor, options: FineOptions
) -> PoseEstimate | None:
    """The pose near `pose` of least robust cost over rendered matches and the initial pose's inliers.

    `pixels` [M, 2] of the query and `points` [M, 3] are the rendered matches. None if it is not accepted.
    """
    camera = initial.camera
    rendered = reprojection.observe(pixels, points, weight=min(1.0, options.sample_size / len(pixels)))
    known = None if initial.matches is None else inlier_observations(initial.matches)
    if known is not None and len(known):
        known = replace(known, weight=known.weight * min(1.0, _INITIAL_SAMPLE_SIZE / len(known)))
    sets = [rendered] if known is None or not len(known) else [rendered, known]
    for _ in range(_PASSES):
        joint = reprojection.join(*(_with_noise(camera, pose, each) for each in sets))
        pose, information = reprojection.minimise(camera, pose, joint)
    if not _accepted(initial, pose, rendered, joint, options):
        return None
    matches = with_inliers(_joined(initial.matches, rendered), camera, pose)
    return replace(
        initial,
        cam_from_world=pose,
        inliers=int(matches.inliers.sum()),
        covariance=with_camera_error(reprojection.jackknifed(camera, pose, joint), initial),
        information=information,
        matches=matches,
    )


def _with_noise(camera: Camera, pose: Tensor, observations: Observations) -> Observations:
    """`observations` with the noise of their errors at `pose`."""
    noise = reprojection.noise_px(reprojection.errors_px(camera, pose, observations))
    sigma = torch.full_like(observations.sigma, max(noise, _MIN_NOISE_PX))
    return replace(observations, sigma=sigma)


def _accepted(
    initial: PoseEstimate, pose: Tensor, rendered: Observations, joint: Observations, options: FineOptions
) -> bool:
    """Whether enough rendered matches agree, the cost has fallen, and the initial pose's inliers are kept."""
    camera = initial.camera
    agree = int(reprojection.inliers(camera, pose, rendered).sum())
    enough = agree >= max(options.min_inliers, _MIN_INLIER_SHARE * len(rendered))
    better = reprojection.cost(camera, pose, joint) <= reprojection.cost(camera, initial.pose(), joint)
    return enough and better and keeps_inliers(pose, initial)


def _joined(initial: Matches | None, rendered: Observations) -> Matches:
    """The initial pose's matches and the rendered ones, inliers to be decided."""
    pixels, points = rendered.pixels.numpy(), rendered.points.numpy()
    if initial is not None:
        pixels = np.concatenate([initial.pixels, pixels])
        points = np.concatenate([initial.points, points])
    return Matches(pixels, points, np.zeros(len(pixels), bool))


def make(options: FineOptions, context: StageContext) -> Refiner:
    return FineRefiner(options, extractor=context.extractor)
