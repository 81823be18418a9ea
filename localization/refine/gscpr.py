"""GS-CPR: one-shot refinement of anybody's pose.

Liu et al., "GS-CPR: Efficient Camera Pose Refinement via 3D Gaussian Splatting" (ICLR 2025): render colour
and depth at the coarse pose, match the rendering with the photo, lift the matches by the rendered depth and
solve PnP with RANSAC. The coarse pose may be tens of centimetres off and needs no covariance or matches of
its own: it only says where to look from. A further round looks from the pose that the last one gave.

The relative variant (GS-CPR_rel) trusts the rendered depth with one number only: the essential matrix of the
matches gives the pose up to scale, and that is the median ratio of rendered to triangulated depths.

Accepted on evidence: matches that prove the pose (`pose.false_alarms`), hardly fewer of them than the
last round had, which agree better with it than with the last pose; and, where the estimate came with matches
of its own, those must still agree.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.alignment.exposure import (
    FILE_NAME as EXPOSURE_NAME,
)
from gsplatloc.localization.alignment.exposure import (
    ColorTransform,
    ExposureNetwork,
    fit_affine,
    load_exposure,
    to_rgb,
)
from gsplatloc.localization.features import make_extractor
from gsplatloc.localization.matching.images import ImageMatcher, ImageMatches, make_matcher
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher
from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.pnp import PnPOptions, estimate_pose, pixel_scale
from gsplatloc.localization.pose.relative import estimate_relative
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.refine.fine import keeps_matches
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError

Exposure = Literal["none", "act", "affine"]
_NOISE_PX = 1.5  # of matches with a rendering, standard deviation per coordinate
_MIN_GROWTH = 0.8  # of the inliers from one round to the next: fewer agree by more than chance


@dataclass(frozen=True)
class GscprOptions:
    """How a pose is refined in one shot, or a few."""

    rounds: int = 2  # renderings, each at the pose that the last one gave (paper: 1)
    matcher: str = "mutual"  # of photo and rendering (paper: MASt3R)
    relative: bool = False  # scale alone from the rendered depth (GS-CPR_rel)
    exposure: Exposure = "none"  # of the rendering: left, by the map's network, or solved per photo
    max_side: int = 800  # pixels: the longer side of the rendering; larger photos are matched at this size
    top_k: int = 2048  # keypoints of a rendering, at most
    min_alpha: float = 0.7  # a rendered pixel less opaque shows what is not mapped
    max_depth_step: float = 0.02  # relative second difference of inverse depth that is no edge yet
    # Matches with a rendering are off by 1 to 2 pixels, all of them: a loss as narrow as that for landmarks
    # wastes most of what they say (0.61 against 0.50 cm on held-out views of RedKitchen).
    pnp: PnPOptions = field(default_factory=lambda: PnPOptions(loss_scale_px=4.0))

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise GSplatLocError(f"expected at least one round, found {self.rounds}: see --rounds")


class GscprRefiner:
    """`Refiner` by render, match, lift and PnP."""

    name = "gscpr"

    def __init__(
        self,
        options: GscprOptions | None = None,
        render_options: RenderOptions | None = None,
        matcher: ImageMatcher | None = None,
        exposure: ExposureNetwork | None = None,
    ):
        """`matcher` is made when it is first needed, if not given; `exposure` is the map's own network.

        Raises `GSplatLocError` where the options ask for a network that the map does not have.
        """
        self.options = options or GscprOptions()
        self.render_options = render_options or RenderOptions()
        self.matcher = matcher
        self.exposure = exposure
        if self.options.exposure == "act" and exposure is None:
            raise GSplatLocError(
                "expected a map with an exposure network, found none:"
                " map with --exposure_model act, or choose affine"
            )

    @torch.no_grad()
    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        """Match and solve, `rounds` times; `initial` again, `accepted=False`, without evidence for more."""
        start = time.perf_counter()
        estimate = initial
        for _ in range(self.options.rounds if initial.ok else 0):
            refined = self._round(query, splat_map.gaussians, estimate.pose())
            if not refined.ok or not _accepted(refined, estimate, initial):
                break
            estimate = replace(refined, camera=initial.camera, distortion=initial.distortion)
        elapsed_ms = 1000 * (time.perf_counter() - start)
        return replace(estimate, accepted=estimate is not initial, elapsed_ms=elapsed_ms)

    def _round(self, query: Query, gaussians: Gaussians, pose: Tensor) -> PoseEstimate:
        options = self.options
        view = rendering.render_map(gaussians, query.camera, pose, self.render_options, options.max_side)
        matches = self._match(query, view)
        if options.relative:
            return estimate_relative(matches, query.camera, view, self._trusted(view), options.pnp)
        kept = rendering.inside(self._trusted(view), matches.b.to(view.depth))
        matches = matches.select(kept.cpu())
        points = rendering.to_world(view, rendering.lift(view, matches.b.to(view.depth)))
        return estimate_pose(matches.a.double().numpy(), points.numpy(), query.camera, options.pnp)

    def _trusted(self, view: rendering.Rendering) -> Tensor:
        return rendering.solid(view, self.options.min_alpha, self.options.max_depth_step)

    def _match(self, query: Query, view: rendering.Rendering) -> ImageMatches:
        """Pixels of the photo beside pixels of the rendering."""
        if self.matcher is None:
            extractor = make_extractor(device=view.rgb.device, top_k=self.options.top_k)
            self.matcher = make_matcher(self.options.matcher, extractor)
        rendered = self._exposed(query, view)
        image = rendering.to_image(rendered)
        if isinstance(self.matcher, KeypointMatcher):
            size = (query.camera.width, query.camera.height)
            return self.matcher.match_keypoints(query.keypoints, size, image)
        photo = resize_rgb(query.image, view.camera.width, view.camera.height)
        matches = self.matcher.match(photo, image)
        scale = [query.camera.width / photo.shape[1], query.camera.height / photo.shape[0]]
        return replace(matches, a=matches.a * torch.tensor(scale))

    def _exposed(self, query: Query, view: rendering.Rendering) -> Tensor:
        """The rendering [3, H, W] in the photo's colours."""
        transform: ColorTransform | None = None
        if self.options.exposure == "act" and self.exposure is not None:
            transform = self.exposure.to(view.rgb.device).of_photo(query.image)
        elif self.options.exposure == "affine":
            photo = resize_rgb(query.image, view.camera.width, view.camera.height)
            transform = fit_affine(view.rgb, to_rgb(photo, view.rgb.device), view.alpha)
        return view.rgb if transform is None else transform.apply(view.rgb)


def _accepted(refined: PoseEstimate, last: PoseEstimate, initial: PoseEstimate) -> bool:
    """Whether a proven pose is also a step on from the last, and loyal to the matches of the first."""
    grown = last is initial or refined.inliers >= _MIN_GROWTH * last.inliers
    return grown and _explains_more(refined, last) and keeps_matches(refined.pose(), initial)


def _explains_more(refined: PoseEstimate, last: PoseEstimate) -> bool:
    """Whether the new matches agree better with the new pose than with that which they were found from.

    PnP sees to that itself; a relative pose close to the rendering's need not.
    """
    if refined.matches is None:
        return False
    camera, noise_px = refined.camera, _NOISE_PX * pixel_scale(refined.camera)
    pixels, points = torch.from_numpy(refined.matches.pixels), torch.from_numpy(refined.matches.points)
    seen = reprojection.observe(pixels, points, noise_px)
    return reprojection.cost(camera, refined.pose(), seen) <= reprojection.cost(camera, last.pose(), seen)


@REFINERS.register("gscpr", GscprOptions, "GS-CPR: match with a rendering, lift by its depth, PnP")
def make(options: GscprOptions, context: StageContext) -> Refiner:
    folder, matcher = context.splat_map.folder, make_matcher(options.matcher, context.extractor)
    if options.exposure != "act" or folder is None:
        return GscprRefiner(options, matcher=matcher)
    return GscprRefiner(options, matcher=matcher, exposure=load_exposure(folder / EXPOSURE_NAME))
