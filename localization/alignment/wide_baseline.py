"""A start for direct alignment where the estimate may be anywhere near: matches before slopes.

Slopes of an image point home from a few pixels away, blurred ones from a few more. From further off, what a
rendering shows is found in the photo by its descriptors instead, wherever it is: keypoints against the
rendered descriptor map, no window, RANSAC. The pose found is rendered and matched again, as more of the photo
is then in view. Evidence is that of `localization.pose.pnp`: far more agreement than wrong matches ever show.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment import correspondences as correspondence
from gsplatloc.localization.alignment import rendered_view as rendering
from gsplatloc.localization.pose.pnp import PnPOptions, estimate_pose
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.gaussians import Gaussians


@dataclass(frozen=True)
class WideOptions:
    """How a start is looked for."""

    rounds: int = 2  # renderings, each at the pose that the last one gave
    max_side: int = 320  # pixels: the longer side of the rendered depth; descriptors have the photo's cells
    keypoints: int = 1024  # of the photo, the strongest
    min_cosine: float = 0.6  # between descriptors that match
    # Looser than where pixels are aligned: RANSAC sorts out wrong depths, and from afar every match counts.
    # With 0.9 and 0.02, 5 more of 120 starts on held-out views found nothing, all with an overlap below 0.3.
    min_alpha: float = 0.7  # a rendered pixel less opaque shows what is not mapped
    max_depth_step: float = 0.1  # relative second difference of inverse depth that is no edge yet
    pnp: PnPOptions = field(default_factory=PnPOptions)


def wide_start(
    query: Query,
    gaussians: Gaussians,
    initial: PoseEstimate,
    render_options: RenderOptions,
    options: WideOptions | None = None,
) -> PoseEstimate:
    """The estimate that rendered descriptors give from `prior`; `prior` itself where they prove nothing."""
    options = options or WideOptions()
    best = initial
    for _ in range(options.rounds):
        found = _matched(query, gaussians, best, render_options, options)
        if not found.ok or (best is not initial and found.inliers <= best.inliers):
            break
        best = replace(found, covariance=None, information=None, distortion=initial.distortion)
    return best


def _matched(
    query: Query,
    gaussians: Gaussians,
    estimate: PoseEstimate,
    render_options: RenderOptions,
    options: WideOptions,
) -> PoseEstimate:
    size = (query.dense.shape[1], query.dense.shape[2])
    view = rendering.render_map(
        gaussians, query.camera, estimate.pose(), render_options, options.max_side, size
    )
    if view.features is None:
        return estimate_pose(np.zeros((0, 2)), np.zeros((0, 3)), query.camera, options.pnp)
    keypoints = query.keypoints.select(slice(0, options.keypoints))
    # Pixels of the photo and of the rendering alike are given at the size of the photo.
    frame = (query.camera.width, query.camera.height)
    pairs = correspondence.match_map(keypoints, view.features, frame, float("inf"), options.min_cosine)
    shown = pairs.rendering * pairs.rendering.new_tensor(
        [view.camera.width / frame[0], view.camera.height / frame[1]]
    )
    trusted = rendering.solid(view, options.min_alpha, options.max_depth_step)
    kept = rendering.inside(trusted, shown)
    world = rendering.to_world(view, rendering.lift(view, shown[kept]))
    return estimate_pose(pairs.photo[kept].double().cpu().numpy(), world.numpy(), query.camera, options.pnp)
