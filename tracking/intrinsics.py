"""The focal length that an RGB-D sequence itself shows, beside the one that was given.

Two points of a rigid scene are as far apart in every frame. A point at depth z, seen at normalised (x, y)
with the given focal length, is at z (x / s, y / s, 1) if the true one is s times as long. Matches of two
frames show s where the distances between their points agree best.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from gsplatloc.scene.cameras import View
from gsplatloc.utils.console import figures, log

_FRAMES = 12  # evenly over the sequence
_APART = range(2, 6)  # frames of these that are matched: neighbours differ too little
_KEYPOINTS, _CONTRAST = 1000, 5  # of an image; of a keypoint, grey values
_MATCHES = 40  # of two frames, at least
_MAX_HAMMING = 50  # bits of 256 in which descriptors that match differ
_DISTANCES = 2000  # between points, at random
_FACTORS = np.exp(np.linspace(math.log(0.4), math.log(2.5), 184))  # steps of 1 %
_CLIP = 0.1  # logarithm of two distances of wrong matches
_PAIRS = 5  # of frames, at least
_DIFFERENCE = 0.03  # logarithm of a factor that is named; the best one is off by up to 0.013 in a clean clip
_DEVIATIONS = 1.5  # of the factors of single pairs; 0.4 in a Kinect's sequence with the right focal length


class _Seen(NamedTuple):
    """Keypoints of a frame that have depth."""

    rays: np.ndarray  # [N, 2] normalised coordinates
    depth: np.ndarray  # [N]
    descriptors: np.ndarray  # [N, 32] uint8


def focal_factor(views: Sequence[View]) -> float | None:
    """How many times longer the focal length is than that of the views, which have depth.

    None where they do not show that it differs.
    """
    chosen = [views[i] for i in np.unique(np.linspace(0, len(views) - 1, _FRAMES).round().astype(int))]
    orb = cv2.ORB.create(_KEYPOINTS, fastThreshold=_CONTRAST)
    seen = [frame for view in chosen if (frame := _seen(view, orb)) is not None]
    pairs = [(a, seen[i + apart]) for i, a in enumerate(seen) for apart in _APART if i + apart < len(seen)]
    factors = [factor for a, b in pairs if (factor := _factor(a, b)) is not None]
    if len(factors) < _PAIRS:
        return None
    low, middle, high = np.percentile(np.log(factors), [25, 50, 75])
    deviation = (high - low) / 1.35
    return math.exp(middle) if abs(middle) > max(_DIFFERENCE, _DEVIATIONS * deviation) else None


def warn_of_focal_length(views: Sequence[View]) -> None:
    """Warn on stderr if the frames show another focal length than the given one."""
    factor = focal_factor(views)
    if factor is not None:
        focal = views[0].camera.fx
        better = figures(factor * focal)
        log(
            f"warning: distances between points agree best with a focal length of {better} px, not"
            f" {figures(focal)}: check the calibration of the sequence",
            stream=sys.stderr,
        )


def _seen(view: View, orb: cv2.ORB) -> _Seen | None:
    if view.load_depth is None:
        return None
    depth, camera = view.load_depth(), view.camera
    points, descriptors = orb.detectAndCompute(cv2.cvtColor(view.load_image(), cv2.COLOR_RGB2GRAY), None)
    if descriptors is None:
        return None
    pixels = np.array([point.pt for point in points])  # from the centre of the first pixel
    column, row = pixels.round().astype(int).T
    inside = depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)]
    known = inside > 0
    if not known.any():
        return None
    rays = (pixels + 0.5 - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return _Seen(rays[known], inside[known].astype(np.float64), descriptors[known])


def _factor(a: _Seen, b: _Seen) -> float | None:
    """The factor with which the distances between matched points of two frames agree best."""
    found = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a.descriptors, b.descriptors)
    near = [match for match in found if match.distance < _MAX_HAMMING]
    if len(near) < _MATCHES:
        return None
    chance = np.random.default_rng(0)
    ends = chance.integers(0, len(near), (2, _DISTANCES))
    lateral, along = zip(
        _squares(a, np.array([match.queryIdx for match in near])[ends]),
        _squares(b, np.array([match.trainIdx for match in near])[ends]),
    )
    apart = np.minimum(lateral[0] + along[0], lateral[1] + along[1]) > 0
    squares = [(of_rays[apart], of_depth[apart]) for of_rays, of_depth in zip(lateral, along)]
    (rays_a, depth_a), (rays_b, depth_b) = squares
    costs = [
        np.minimum(np.abs(np.log((rays_a / s**2 + depth_a) / (rays_b / s**2 + depth_b))), _CLIP).sum()
        for s in _FACTORS
    ]
    best = int(np.argmin(costs))
    return float(_FACTORS[best]) if 0 < best < len(_FACTORS) - 1 else None  # at an end: they show nothing


def _squares(frame: _Seen, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances [M] between points `ends` [2, M], across the view and along it."""
    depth = frame.depth[ends]
    across = frame.rays[ends] * depth[..., None]
    return ((across[0] - across[1]) ** 2).sum(1), (depth[0] - depth[1]) ** 2
