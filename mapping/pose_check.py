"""Do matches of images fit the poses of their scene, and if not, those of another convention?

Image pairs are chosen without the poses: matches that fit some relative pose (five-point RANSAC) show that
two images see the same place. Poses are wrong if these matches do not fit them. Images of too little texture
match nowhere, and prove nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.pose.relative import triangulated_depth
from gsplatloc.mapping.camera_check import better_camera
from gsplatloc.mapping.matched_pairs import NO_BASELINE, Pair, matched_pairs
from gsplatloc.mapping.triangulation import (
    MAX_EPIPOLAR_PX,
    Tracks,
    epipolar_distances,
    pixel_scale,
)
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import quoted

_FEW_TRACKS = 20  # per view; scenes with right poses and textured images have 100 and more
_HARDLY = 0.05  # times the observations of a usual view: what matches at a wrong pose by chance
_PAIRS, _FEWER_PAIRS = 120, 40  # compared at most, with few and with many tracks
_MIN_PAIRS = 2
_AGREEING = 0.5  # share of these inliers that fits right poses
_CONTRADICTING = 0.25  # and wrong ones: the epipolar lines of some pass near by chance
# What programs do to images without their poses -> whether columns and rows are reversed.
_FLIPS = {
    "mirrored (left and right are exchanged)": (True, False),
    "mirrored (top and bottom are exchanged)": (False, True),
    "turned by 180 degrees": (True, True),
}
_MIN_SINE = 0.01  # of the angle between two rays; the side on which smaller ones meet is uncertain


@dataclass(frozen=True)
class Contradiction:
    """An error in the poses or the intrinsics of a scene."""

    text: str
    certain: bool  # otherwise poses may also be inaccurate, by some of the distance between the cameras


def contradiction(scene: Scene, keypoints: Sequence[Keypoints], tracks: Tracks) -> Contradiction | None:
    """The error in the poses or the intrinsics of a scene; None if none is found.

    Wrong poses of cameras that stand close to each other may give many tracks, too.
    """
    few = len(tracks) < _FEW_TRACKS * len(scene.train)
    pairs = matched_pairs(scene.train, keypoints, _PAIRS if few else _FEWER_PAIRS)
    share = _agreement(pairs, lambda pose: pose)
    if len(pairs) < _MIN_PAIRS:
        return None
    if share >= _CONTRADICTING:
        camera = better_camera(pairs)
        return None if camera is None else Contradiction(camera, certain=False)
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
    return Contradiction(better_camera(pairs) or text, certain=few)


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


def _flipped(pair: Pair, columns: bool, rows: bool) -> Pair:
    """A pair of images mirrored: their columns, their rows or both in reverse order."""
    xy = []
    for view, found in ((pair.a, pair.xy_a), (pair.b, pair.xy_b)):
        size = np.array([view.camera.width, view.camera.height], np.float64)
        xy.append(np.where([columns, rows], size - found, found))
    return Pair(pair.a, pair.b, *xy)


def _agreement(pairs: Sequence[Pair], reread: Callable[[Tensor], Tensor]) -> float:
    """The median over the pairs of the share of matches that fit the poses, after `reread`."""
    return float(np.median([_share(pair, reread) for pair in pairs] or [1.0]))


def _share(pair: Pair, reread: Callable[[Tensor], Tensor]) -> float:
    """Share of the matches that are near their epipolar lines and in front of both cameras."""
    a, b = (view.with_pose(reread(view.cam_from_world)) for view in (pair.a, pair.b))
    limit = MAX_EPIPOLAR_PX * pixel_scale([a, b])
    b_from_a = b.cam_from_world @ se3.inverse(a.cam_from_world)
    ones = torch.ones(len(pair.xy_a), dtype=torch.float64)
    rays_a, rays_b = (
        view.camera.unproject(torch.from_numpy(xy), ones) for view, xy in ((a, pair.xy_a), (b, pair.xy_b))
    )
    if b_from_a[:3, 3].norm() < NO_BASELINE:  # no epipolar lines: every point is where the rotation moves it
        moved = b.camera.project(rays_a @ b_from_a[:3, :3].T) - torch.from_numpy(pair.xy_b)
        return float((moved.norm(dim=1) < limit).double().mean())
    near = epipolar_distances(a, b, pair.xy_a, pair.xy_b) < limit
    depth_a, sine = triangulated_depth(b_from_a, rays_a, rays_b)
    depth_b, _ = triangulated_depth(se3.inverse(b_from_a), rays_b, rays_a)
    behind = ((depth_a < 0) | (depth_b < 0)) & (sine > _MIN_SINE)
    return float((near & ~behind.numpy()).mean())
