"""Seams of a trajectory: steps between two frames that the camera has hardly made.

A truth that was estimated offline is often put together from fragments, each of them consistent, and where
two meet it jumps. No tracker can follow such a step, nor should it: errors over a seam are the truth's, so
they are worth stating for each piece as well. A camera has mass, so its motion from one frame to the next is
near the mean of the motions before and after; a seam is a single motion that is not, by far. The images have
the last word on whether the camera was kicked there: see benchmarks/rgbd_seams.py.
"""

import torch
from torch import Tensor

from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.utils import se3

# In medians of the trajectory: the two seams of tum_livingroom1 are 65 and 45. Of all other steps the largest
# is 17 there, a jerk that the images confirm, and 3 in RedKitchen's 175 training frames.
_OUTLIER = 25.0
_ALONE = 1.4  # times the steps beside it; a seam's is twice them, a camera's start or stop has two alike
_LEAST = 0.005  # metres plus radians: a smaller step hardly moves an error, and a camera at rest makes none


def steps(trajectory: Trajectory) -> Tensor:
    """How far each of the motions [N - 1] is from the mean of its neighbours, in metres plus radians.

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


def seams(trajectory: Trajectory) -> list[int]:
    """The first frames of all pieces but the first, found in the trajectory alone.

    A step shows in the motions beside it as well, half as large: it must stand out from them.
    """
    size = steps(trajectory)
    least = max(_OUTLIER * size.median().item(), _LEAST) if len(size) else _LEAST
    return [
        index + 1
        for index in range(1, len(size) - 1)
        if size[index] > least and size[index] > _ALONE * max(size[index - 1], size[index + 1])
    ]


def pieces(trajectory: Trajectory) -> list[range]:
    """The frames between seams: one range where there are none."""
    edges = [0, *seams(trajectory), len(trajectory)]
    return [range(first, last) for first, last in zip(edges, edges[1:])]
