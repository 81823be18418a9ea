"""Do matches of images fit the poses of their scene, and if not, those of another convention?

Image pairs are chosen without the poses: matches that fit some relative pose (five-point RANSAC) show that
two images see the same place. Poses are wrong if these matches do not fit them. Images of too little texture
match nowhere, and prove nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import poselib
import torch
from torch import Tensor

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.pose.pnp import RANSAC_SEED, poselib_camera
from gsplatloc.localization.pose.relative import triangulated_depth
from gsplatloc.mapping.triangulation import (
    MAX_EPIPOLAR_PX,
    MIN_SIMILARITY,
    Tracks,
    epipolar_distances,
    pixel_scale,
)
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import quoted

_FEW_TRACKS = 20  # per view; scenes with right poses and textured images have 100 and more
_HARDLY = 0.05  # times the observations of a usual view: what matches at a wrong pose by chance
_OFFSETS = (1, 2, 4, 8)  # between the views of a pair: in the order of names, neighbours often overlap
_PAIRS, _FEWER_PAIRS = 120, 40  # compared at most, with few and with many tracks
_MIN_INLIERS = 40  # of the relative pose of a pair: it sees the same place
_MIN_PAIRS = 2
_AGREEING = 0.5  # share of these inliers that fits right poses
_CONTRADICTING = 0.25  # and wrong ones: the epipolar lines of some pass near by chance
# What programs do to images without their poses -> whether columns and rows are reversed.
_FLIPS = {
    "mirrored (left and right are exchanged)": (True, False),
    "mirrored (top and bottom are exchanged)": (False, True),
    "turned by 180 degrees": (True, True),
}
_NO_BASELINE = 1e-9  # between two cameras at the same place
_MIN_SINE = 0.01  # of the angle between two rays that tells on which side of the cameras they meet


@dataclass(frozen=True)
class _Pair:
    """Matches of two views that fit some relative pose."""

    a: View
    b: View
    xy_a: np.ndarray  # [K, 2] pixels
    xy_b: np.ndarray  # [K, 2] pixels


@dataclass(frozen=True)
class Contradiction:
    """What is wrong with the poses of a scene."""

    text: str
    certain: bool  # otherwise the poses may also be inaccurate, by some of the distance between the cameras


def contradiction(scene: Scene, keypoints: Sequence[Keypoints], tracks: Tracks) -> Contradiction | None:
    """What is wrong with the poses of a scene; None if nothing seems to be.

    Wrong poses of cameras that stand close to each other may give many tracks, too.
    """
    few = len(tracks) < _FEW_TRACKS * len(scene.train)
    pairs = _pairs(scene.train, keypoints, _PAIRS if few else _FEWER_PAIRS)
    share = _agreement(pairs, lambda pose: pose)
    if len(pairs) < _MIN_PAIRS or share >= _CONTRADICTING:
        return None
    own = scene.convention
    fits = {other: _agreement(pairs, partial(own.reread, other=other)) for other in own.others()}
    best = max(fits, key=lambda other: fits[other])
    found = (
        f"expected matches of images to fit the poses, read as {own}, found that {share:.0%} of them do in"
        f" {len(pairs)} pairs of images"
    )
    if fits[best] >= _AGREEING:
        text = f"{found}: {fits[best]:.0%} fit if the poses are {best}, so convert the poses"
        return Contradiction(text, certain=True)
    for change, (columns, rows) in _FLIPS.items():
        fitting = _agreement([_flipped(pair, columns, rows) for pair in pairs], lambda pose: pose)
        if fitting >= _AGREEING:
            text = f"{found}: {fitting:.0%} fit if the images are {change}, so change them back"
            return Contradiction(text, certain=True)
    text = f"{found}: check this convention, that the poses are of these images, and the focal length"
    return Contradiction(text, certain=few)


def outliers(views: Sequence[View], tracks: Tracks) -> str | None:
    """Which views share hardly any points with the others, as those with a wrong pose; None if none does."""
    counts = np.bincount(tracks.observed_view, minlength=len(views))
    usual = float(np.median(counts))
    found = [view for view, count in zip(views, counts) if count < _HARDLY * usual]
    if not found or usual < _FEW_TRACKS:
        return None
    return (
        f"{len(found)} of {len(views)} images share hardly any points with the others, for example"
        f" {quoted(found[0].name)}: their poses may be wrong, or they show another place"
    )


def _flipped(pair: _Pair, columns: bool, rows: bool) -> _Pair:
    """A pair as its images would be with their columns, their rows or both in reverse order."""
    xy = []
    for view, found in ((pair.a, pair.xy_a), (pair.b, pair.xy_b)):
        size = np.array([view.camera.width, view.camera.height], np.float64)
        xy.append(np.where([columns, rows], size - found, found))
    return _Pair(pair.a, pair.b, *xy)


def _agreement(pairs: Sequence[_Pair], reread: Callable[[Tensor], Tensor]) -> float:
    """The median over the pairs of the share of matches that fit the poses, after `reread`."""
    return float(np.median([_share(pair, reread) for pair in pairs] or [1.0]))


def _share(pair: _Pair, reread: Callable[[Tensor], Tensor]) -> float:
    """Share of the matches that are near their epipolar lines and in front of both cameras."""
    a, b = (view.with_pose(reread(view.cam_from_world)) for view in (pair.a, pair.b))
    limit = MAX_EPIPOLAR_PX * pixel_scale([a, b])
    b_from_a = b.cam_from_world @ se3.inverse(a.cam_from_world)
    ones = torch.ones(len(pair.xy_a), dtype=torch.float64)
    rays_a, rays_b = (
        view.camera.unproject(torch.from_numpy(xy), ones) for view, xy in ((a, pair.xy_a), (b, pair.xy_b))
    )
    if b_from_a[:3, 3].norm() < _NO_BASELINE:  # no epipolar lines: every point is where the rotation moves it
        moved = b.camera.project(rays_a @ b_from_a[:3, :3].T) - torch.from_numpy(pair.xy_b)
        return float((moved.norm(dim=1) < limit).double().mean())
    near = epipolar_distances(a, b, pair.xy_a, pair.xy_b) < limit
    depth_a, sine = triangulated_depth(b_from_a, rays_a, rays_b)
    depth_b, _ = triangulated_depth(se3.inverse(b_from_a), rays_b, rays_a)
    behind = ((depth_a < 0) | (depth_b < 0)) & (sine > _MIN_SINE)
    return float((near & ~behind.numpy()).mean())


def _pairs(views: Sequence[View], keypoints: Sequence[Keypoints], most: int) -> list[_Pair]:
    index = [(i, i + offset) for i in range(len(views)) for offset in _OFFSETS if i + offset < len(views)]
    stride = max(1, -(-len(index) // most))
    found = (_pair(views[a], views[b], keypoints[a], keypoints[b]) for a, b in index[::stride])
    return [pair for pair in found if pair is not None]


def _pair(a: View, b: View, of_a: Keypoints, of_b: Keypoints) -> _Pair | None:
    """The matches of two views that fit one relative pose; None if there are few."""
    matches = mutual_nearest(of_a.descriptors, of_b.descriptors, MIN_SIMILARITY)
    xy_a, xy_b = of_a.xy[matches.index_a].double().numpy(), of_b.xy[matches.index_b].double().numpy()
    if len(xy_a) < _MIN_INLIERS:
        return None
    ransac = {"max_epipolar_error": MAX_EPIPOLAR_PX * pixel_scale([a, b]), "seed": RANSAC_SEED}
    _, info = poselib.estimate_relative_pose(
        xy_a, xy_b, poselib_camera(a.camera), poselib_camera(b.camera), ransac, {}
    )
    inliers = np.array(info["inliers"], bool)
    return _Pair(a, b, xy_a[inliers], xy_b[inliers]) if inliers.sum() >= _MIN_INLIERS else None
