"""The test of a pose: the expected number of poses that wrong matches alone would support as well.

A-contrario reasoning (Moisan & Stival, "A probabilistic criterion to detect rigid point matches between two
images", IJCV 2004): assume that every match is wrong, and compute how many poses would still have so many
inliers. Far less than one means that the matches are not all wrong. No inlier ratio has to be chosen.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.result import Matches
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

POSE_PARAMETERS = 6
_SHUFFLES = 32  # of points against pixels: 32 * 500 pairs give a chance of 1e-3 to within a quarter
_PER_SAMPLE = 4  # poses that three matches can have (P3P)
_CELLS_PER_ROW = 1 << 20  # more than any image has


def log10_false_alarms(
    matches: Matches, cam_from_world: Tensor, camera: Camera, max_error_px: float, parameters: int
) -> float:
    """log10 of the expected number of poses with as many inliers among `matches` if all matches are wrong.

    `parameters` were fitted to the inliers (6 for a pose, more with intrinsics): as many matches are not
    counted, since refinement can make them agree whatever they are. That is stricter than the three of a
    minimal sample, and photos of other places require it. Matches closer together than twice `max_error_px`
    are not independent and count once.
    """
    side = 2 * max_error_px
    total = _occupied_cells(matches.pixels, side)
    agreeing = _occupied_cells(matches.pixels[matches.inliers], side)
    chance = max(
        chance_anywhere(camera, max_error_px),
        _chance_of_shuffled(matches, cam_from_world, camera, max_error_px),
    )
    return log10_expected(total, agreeing, chance, parameters)


def log10_expected(total: int, agreeing: int, chance: float, parameters: int) -> float:
    """log10 of 4 (n - s) C(n, k) C(k, s) p^(k - s): n matches, k inliers of chance p each, s parameters."""
    if agreeing <= parameters:
        return math.inf
    tests = _PER_SAMPLE * (total - parameters)
    ways = _log10_choose(total, agreeing) + _log10_choose(agreeing, parameters)
    return math.log10(tests) + ways + (agreeing - parameters) * math.log10(min(chance, 1.0))


def log10_tail(total: int, agreeing: int, chance: float) -> float:
    """log10 of a bound on the probability that so many of `total` independent events of `chance` happen.

    n KL(k/n, p) of the binomial distribution (Hoeffding, "Probability inequalities for sums of bounded random
    variables", 1963); 0 where not more happened than were expected.
    """
    if total == 0 or agreeing <= chance * total or chance <= 0:
        return 0.0
    share = agreeing / total
    divergence = share * math.log(share / chance)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - chance))
    return -total * divergence / math.log(10)


def chance_anywhere(camera: Camera, max_error_px: float) -> float:
    """Probability that a pixel drawn anywhere in the image is within `max_error_px` of a given one."""
    return min(1.0, math.pi * max_error_px**2 / (camera.width * camera.height))


def _chance_of_shuffled(
    matches: Matches, cam_from_world: Tensor, camera: Camera, max_error_px: float
) -> float:
    """Share of inliers among pixels paired with the points of other matches.

    A distant camera sees all points in a small region, and keypoints and landmarks gather on the same
    textured surfaces: there, wrong matches agree more often than uniformly distributed ones.
    """
    points = torch.from_numpy(matches.points)
    in_cam = se3.transform(cam_from_world, points)
    projections = torch.where(in_cam[:, 2:] > 0, camera.project(in_cam), torch.inf).numpy()
    rng, count = np.random.default_rng(0), len(matches)
    shifts = rng.choice(np.arange(1, count), min(_SHUFFLES, count - 1), replace=False)
    others = (np.arange(count) - shifts[:, None]) % count
    columns, rows = (projections[:, axis][others] - matches.pixels[:, axis] for axis in (0, 1))
    return float((columns * columns + rows * rows < max_error_px**2).mean()) if len(shifts) else 0.0


def _occupied_cells(pixels: np.ndarray, side: float) -> int:
    cells = np.floor(pixels / side).astype(np.int64)
    return len(np.unique(cells[:, 1] * _CELLS_PER_ROW + cells[:, 0]))


def _log10_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)
