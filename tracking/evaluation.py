"""Errors of a trajectory: the metrics of the TUM RGB-D benchmark, as evo computes them.

Sturm et al. (IROS 2012): the absolute trajectory error is the root mean square distance between true and
estimated camera centres, after the rigid motion that brings them closest (Umeyama 1991, without scale). The
average absolute orientation error is the mean angle between the rotations, after the same motion. Camera
centres on a line leave the rotation about it open, so that there is no such angle for a straight path.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.evaluation import pose_distances
from gsplatloc.scene.trajectory import Trajectory, associate
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

TOLERANCE = 0.02  # maximum seconds between an estimate and its ground truth
_MIN_PAIRS = 3  # fewer camera centres fix no rigid motion
_MAX_ROLL_DEG = 2.0  # standard deviation of the rotation about the path; above it there is no aligned angle
_SAME_SHAPE = 0.95  # least correlation of two paths of the same shape
_ROUNDING = 1e-6  # of a path's extent: error of centres in files of six digits


@dataclass(frozen=True)
class TrajectoryError:
    """The errors of an estimated trajectory."""

    pairs: int  # estimates with a ground truth at their time
    ate_rmse_m: float  # of camera centres, after alignment
    aae_deg: float | None  # mean angle between rotations, after alignment; None if the path is straight
    ate_rmse_unaligned_m: float  # without alignment: the first pose is that of the ground truth
    aae_unaligned_deg: float
    ate_max_m: float  # the largest distance, after alignment
    length_m: float  # of the ground-truth path


def trajectory_error(
    estimate: Trajectory, truth: Trajectory, tolerance: float = TOLERANCE
) -> TrajectoryError:
    """Errors of poses with a ground truth within `tolerance` seconds; `GSplatLocError` for less than 3."""
    estimate, truth = matched(estimate, truth, tolerance)
    errors, angles = pose_distances(estimate.cam_from_world, truth.cam_from_world)
    raw, raw_angles = pose_distances(aligned(estimate, truth).cam_from_world, truth.cam_from_world)
    steps = se3.camera_center(truth.cam_from_world).diff(dim=0).norm(dim=1)
    return TrajectoryError(
        pairs=len(truth),
        ate_rmse_m=_rms(raw),
        aae_deg=raw_angles.mean().item() if _fixes_rotation(truth, _rms(raw)) else None,
        ate_rmse_unaligned_m=_rms(errors),
        aae_unaligned_deg=angles.mean().item(),
        ate_max_m=raw.max().item(),
        length_m=steps.sum().item(),
    )


def matched(
    estimate: Trajectory, truth: Trajectory, tolerance: float = TOLERANCE
) -> tuple[Trajectory, Trajectory]:
    """The poses of both that are of the same time, pair by pair."""
    here, there = pairs(estimate.timestamps, truth.timestamps, tolerance)
    return estimate.select(here), truth.select(there)


def pairs(
    estimated: np.ndarray, true: np.ndarray, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Indices [M] of the timestamps [N] and [K] that are of the same time; `GSplatLocError` if M < 3."""
    here, there = associate(estimated, true, tolerance)
    if len(here) < _MIN_PAIRS:
        raise GSplatLocError(
            f"expected at least {_MIN_PAIRS} poses at the times of the ground truth (within {tolerance} s),"
            f" found {len(here)}: take more frames, or remove the ground truth of another sequence"
        )
    return here, there


def aligned(estimate: Trajectory, truth: Trajectory) -> Trajectory:
    """The estimate in the world frame of the ground truth, by the rigid motion of the camera centres."""
    motion = se3.rigid_motion(
        se3.camera_center(estimate.cam_from_world), se3.camera_center(truth.cam_from_world)
    )
    return Trajectory(estimate.timestamps, estimate.cam_from_world @ se3.inverse(motion))


def path_scale(estimate: Trajectory, truth: Trajectory, tolerance: float = TOLERANCE) -> float | None:
    """Length of the estimated path relative to the true one (Umeyama 1991); None if their shapes differ.

    Depth in another unit than the ground truth scales the path that is tracked with it.
    """
    centers = [se3.camera_center(part.cam_from_world) for part in matched(estimate, truth, tolerance)]
    estimated, true = (part - part.mean(0) for part in centers)
    together = torch.linalg.svdvals(true.T @ estimated).sum()
    lengths = true.norm(), estimated.norm()
    if not together > _SAME_SHAPE * lengths[0] * lengths[1]:
        return None
    return float(lengths[1] / lengths[0])


def _fixes_rotation(truth: Trajectory, rms: float) -> bool:
    """Whether centres with an error of `rms` metres determine the rotation of their alignment.

    The rotation about the path's direction of largest spread has a standard deviation of the error of one
    centre over the spread across it, divided by the root of their number.
    """
    centers = se3.camera_center(truth.cam_from_world)
    along, across, _ = torch.linalg.svdvals(centers - centers.mean(0)).tolist()  # roots of sums of squares
    error = rms + _ROUNDING * along
    return error < math.radians(_MAX_ROLL_DEG) * across


def _rms(values: Tensor) -> float:
    return float(np.sqrt(np.mean(np.square(values.numpy()))))
