"""Pairs of views that see the same place, found without their poses, by which those are checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import poselib

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.pose.pnp import RANSAC_SEED, poselib_camera
from gsplatloc.mapping.triangulation import MAX_EPIPOLAR_PX, match_keypoints, matched_pixels, pixel_scale
from gsplatloc.scene.cameras import View

_OFFSETS = (1, 2, 4, 8)  # between the views of a pair: in the order of names, neighbours often overlap
_MIN_INLIERS = 40  # of the relative pose of a pair: it sees the same place
# Of RANSAC. PoseLib's default of 1,000 takes three times as long for 1 % more inliers (campus_drone).
_MIN_ITERATIONS = 100
_MAX_ITERATIONS = 100_000  # PoseLib's default
NO_BASELINE = 1e-9  # between two cameras at the same place, which have no epipolar lines


@dataclass(frozen=True)
class Pair:
    """Matches of two views that fit some relative pose."""

    a: View
    b: View
    xy_a: np.ndarray  # [K, 2] pixels
    xy_b: np.ndarray  # [K, 2] pixels


def matched_pairs(views: Sequence[View], keypoints: Sequence[Keypoints], most: int) -> list[Pair]:
    """At most `most` pairs with matches, evenly spread over the views."""
    index = [(i, i + offset) for i in range(len(views)) for offset in _OFFSETS if i + offset < len(views)]
    stride = max(1, -(-len(index) // most))
    found = (_pair(views[a], views[b], keypoints[a], keypoints[b]) for a, b in index[::stride])
    return [pair for pair in found if pair is not None]


def _pair(a: View, b: View, of_a: Keypoints, of_b: Keypoints) -> Pair | None:
    """The matches of two views that fit one relative pose; None if there are few."""
    xy_a, xy_b = matched_pixels(of_a, of_b, match_keypoints(of_a, of_b))
    if len(xy_a) < _MIN_INLIERS:
        return None
    scale = pixel_scale([a, b])
    inliers = fit_relative_pose(a, b, xy_a, xy_b, scale, _MIN_ITERATIONS)
    return Pair(a, b, xy_a[inliers], xy_b[inliers]) if inliers.sum() >= _MIN_INLIERS else None


def fit_relative_pose(
    a: View,
    b: View,
    xy_a: np.ndarray,
    xy_b: np.ndarray,
    scale: float,
    min_iterations: int,
    max_iterations: int = _MAX_ITERATIONS,
) -> np.ndarray:
    """Which matches of pixels [K, 2] and [K, 2] fit one relative pose. Returns inliers [K] bool.

    `scale`: factor on the epipolar tolerance (`pixel_scale` of the views). The others bound the iterations of
    RANSAC.
    """
    options = {
        "max_epipolar_error": MAX_EPIPOLAR_PX * scale,
        "seed": RANSAC_SEED,
        "min_iterations": min_iterations,
        "max_iterations": max_iterations,
    }
    cameras = poselib_camera(a.camera), poselib_camera(b.camera)
    _, info = poselib.estimate_relative_pose(xy_a, xy_b, *cameras, options, {})
    return np.array(info["inliers"], bool)
