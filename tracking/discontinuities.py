"""Discontinuities of a ground-truth trajectory: steps between two frames that the camera did not make.

A ground truth that was estimated offline is often assembled from segments, each of them consistent, with a
step where two meet. No tracker can or should follow such a step: the error over it is that of the ground
truth, so that errors are stated for each segment as well. A camera has mass, and its motion from one frame
to the next is near the mean of the motions before and after; a discontinuity is a single motion far from
it. Whether the camera was shaken there can be checked in the images (benchmarks).
"""

import torch
from torch import Tensor

from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.utils import se3

# Relative to the trajectory's median: the two discontinuities of tum_livingroom1 have 65 and 45. The largest
# of all other steps is 17 there, a jerk that the images confirm, and 3 in RedKitchen's 175 training frames.
_OUTLIER = 25.0
_RATIO = 1.4  # to the steps beside it: 2 at a discontinuity, 1 where a camera starts or stops
_MIN_STEP = 0.005  # metres plus radians: smaller ones hardly change an error, and a camera at rest has none


def steps(trajectory: Trajectory) -> Tensor:
    """The distance of each motion [N - 1] from the mean of its neighbours, in metres plus radians.

    Motions over longer times are scaled to the median one. Zero for the first and the last.
    """
    poses = trajectory.cam_from_world
    seconds = torch.from_numpy(trajectory.timestamps).diff()
    motions = se3.se3_log(poses[1:] @ se3.inverse(poses[:-1]))
    if len(motions) < 3:
        return motions.new_zeros(len(motions))
    motions = motions * (seconds.median() / seconds.clamp(min=1e-9))[:, None]
    off = motions[1:-1] - (motions[:-2] + motions[2:]) / 2
    size = off[:, :3].norm(dim=1) + off[:, 3:].norm(dim=1)
    return torch.cat([size.new_zeros(1), size, size.new_zeros(1)])


def discontinuities(trajectory: Trajectory) -> list[int]:
    """The first frames of all segments but the first, found in the trajectory alone.

    A step changes the motions beside it as well, half as much: it must be larger than they are.
    """
    size = steps(trajectory)
    least = max(_OUTLIER * size.median().item(), _MIN_STEP) if len(size) else _MIN_STEP
    return [
        index + 1
        for index in range(1, len(size) - 1)
        if size[index] > least and size[index] > _RATIO * max(size[index - 1], size[index + 1])
    ]


def segments(trajectory: Trajectory) -> list[range]:
    """The frames between discontinuities: one range where there are none."""
    edges = [0, *discontinuities(trajectory), len(trajectory)]
    return [range(first, last) for first, last in zip(edges, edges[1:])]
