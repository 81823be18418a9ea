"""GS-CPR: one-shot refinement of a pose of any estimator.

Liu et al., "GS-CPR: Efficient Camera Pose Refinement via 3D Gaussian Splatting" (ICLR 2025): render colour
and depth at the initial pose, match the rendering with the query image, lift the matches by the rendered
depth and solve PnP with RANSAC. The initial pose may be tens of centimetres off and needs no covariance or
matches: it only selects the view that is rendered. A further round renders at the pose of the last one.

In the relative variant (GS-CPR_rel) the essential matrix of the matches gives the pose up to scale, and the
rendered depth the scale: the median ratio of rendered to triangulated depths.

A pose is accepted if its matches pass the test of false alarms (`pose.false_alarms`), if it has at least 80 %
of the last round's inliers, if the matches agree better with it than with the last pose, and if 90 % of the
initial pose's inliers, where it has any, are inliers of it.
"""

import time
from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.exposure import FILE_NAME as EXPOSURE_NAME
from gsplatloc.localization.alignment.exposure import (
    ColorTransform,
    ExposureNetwork,
    fit_affine,
    load_exposure,
    to_rgb,
)
from gsplatloc.localization.matching.images import ImageMatcher, ImageMatches, make_matcher
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.estimates import keeps_inliers, with_camera_error
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.pose.relative import DepthMatches, estimate_relative
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import Refiner, StageContext
from gsplatloc.localization.refine.members import GscprOptions
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError

_NOISE_PX = 1.5  # of matches with a rendering, standard deviation per coordinate
_MIN_KEPT = 0.8  # share of the last round's inliers: fluctuations by chance are smaller
_VALID_DEPTH = rendering.ValidDepth(min_alpha=0.7, max_depth_step=0.02)


class GscprRefiner:
    """`Refiner` by render, match, lift and PnP."""

    name = "gscpr"
    verifies = False

    def __init__(
        self,
        options: GscprOptions | None = None,
        *,
        matcher: ImageMatcher,
        exposure: ExposureNetwork | None = None,
    ):
        """`exposure` is the map's exposure network.

        Raises `GSplatLocError` where the options ask for a network that the map does not have.
        """
        self.options = options or GscprOptions()
        self.matcher = matcher
        self.exposure = exposure
        if self.options.exposure == "act" and exposure is None:
            raise GSplatLocError(
                "expected a map with an exposure network, found none:"
                " map with --exposure_model act, or choose affine"
            )

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """Match and solve, `rounds` times; `initial` with `accepted=False` if no round is accepted."""
        start = time.perf_counter()
        estimate = initial
        for _ in range(self.options.rounds if initial.ok else 0):
            refined = self._round(query, splat_map.gaussians, estimate.pose())
            refined = replace(refined, covariance=with_camera_error(refined.covariance, initial))
            if not refined.ok or not _accepted(refined, estimate, initial):
                break
            estimate = replace(
                refined,
                camera=initial.camera,
                distortion=initial.distortion,
                camera_covariance=initial.camera_covariance,
            )
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(estimate, accepted=estimate is not initial, elapsed_ms=elapsed_ms)

    def _round(self, query: Query, gaussians: Gaussians, pose: Tensor) -> PoseEstimate:
        options = self.options
        view = rendering.render_map(gaussians, query.camera, pose, options.max_side)
        matches = self._match(query, view)
        shown = matches.b.to(view.depth)
        kept = rendering.inside(rendering.valid_depth_mask(view, _VALID_DEPTH), shown)
        if options.relative:
            depth = torch.where(kept, rendering.lift(view, shown)[:, 2], 0.0).double().cpu()
            pairs = DepthMatches(matches.a.double(), matches.b.double(), depth)
            reference = PosedCamera(view.camera, view.cam_from_world)
            return estimate_relative(pairs, query.camera, reference, options.pnp)
        points = rendering.to_world(view, rendering.lift(view, shown[kept]))
        pixels = matches.a[kept.cpu()].double()
        return estimate_pose(pixels.numpy(), points.numpy(), query.camera, options.pnp)

    def _match(self, query: Query, view: rendering.Rendering) -> ImageMatches:
        """Matches between pixels of the query image and of the rendering."""
        image = rendering.to_image(self._exposed(query, view))
        if isinstance(self.matcher, KeypointMatcher):
            size = (query.camera.width, query.camera.height)
            return self.matcher.match_keypoints(query.keypoints, size, image)
        photo = resize_rgb(query.image, view.camera.width, view.camera.height)
        matches = self.matcher.match(photo, image)
        scale = [query.camera.width / photo.shape[1], query.camera.height / photo.shape[0]]
        return replace(matches, a=matches.a * torch.tensor(scale))

    def _exposed(self, query: Query, view: rendering.Rendering) -> Tensor:
        """The rendering [3, H, W] with the exposure of the query image."""
        transform: ColorTransform | None = None
        if self.options.exposure == "act" and self.exposure is not None:
            transform = self.exposure.to(view.rgb.device).of_photo(query.image)
        elif self.options.exposure == "affine":
            photo = resize_rgb(query.image, view.camera.width, view.camera.height)
            transform = fit_affine(view.rgb, to_rgb(photo, view.rgb.device), view.alpha)
        return view.rgb if transform is None else transform.apply(view.rgb)


def _accepted(refined: PoseEstimate, last: PoseEstimate, initial: PoseEstimate) -> bool:
    """Whether a verified pose improves on the last one and keeps the inliers of the initial one."""
    enough = last is initial or refined.inliers >= _MIN_KEPT * last.inliers
    return enough and _lowers_cost(refined, last) and keeps_inliers(refined.pose(), initial)


def _lowers_cost(refined: PoseEstimate, last: PoseEstimate) -> bool:
    """Whether the new matches agree better with the new pose than with the pose that was rendered.

    PnP ensures it; a relative pose close to the rendered one need not fulfil it.
    """
    if refined.matches is None:
        return False
    camera, noise_px = refined.camera, _NOISE_PX * reprojection.pixel_scale(refined.camera)
    pixels, points = torch.from_numpy(refined.matches.pixels), torch.from_numpy(refined.matches.points)
    seen = reprojection.observe(pixels, points, noise_px)
    return reprojection.cost(camera, refined.pose(), seen) <= reprojection.cost(camera, last.pose(), seen)


def make(options: GscprOptions, context: StageContext) -> Refiner:
    matcher = make_matcher(options.matcher, context.extractor)
    if options.exposure != "act" or context.splat_map.folder is None:
        return GscprRefiner(options, matcher=matcher)
    exposure = load_exposure(context.splat_map.file(EXPOSURE_NAME))
    return GscprRefiner(options, matcher=matcher, exposure=exposure)
