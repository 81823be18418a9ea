"""Whether 2D-3D matches contradict a camera given as exact, and what this doubt adds to the covariance."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.pose.camera.model import (
    CALIBRATION,
    CENTER,
    FEWEST_MATCHES,
    FOCAL,
    FOCAL_ROW,
    LOG_FOCAL,
    MATCHES_PER_ERROR,
    POSE,
    CameraFit,
    camera_covariance,
    cell_sums,
    likelihood_gain,
    minimised,
    near_observations,
    normal_density,
    plausible,
    promised_gain,
)
from gsplatloc.localization.pose.covariance import jackknife, symmetric_inverse
from gsplatloc.localization.pose.reprojection import Observations
from gsplatloc.scene.cameras import Camera

# A camera that was given as exact is wrong if another one gains so much, and differs by so much: 38 held-out
# views of RedKitchen and an office gain at most 3.9 with a camera that differs by at most 2.6 %, and 95 %
# of these with a focal length that is 10 % wrong gain at least 8.
_MIN_GAIN_OF_GIVEN = 6.0
_MIN_DIFFERENCE = 0.02  # logarithm of the focal length; centre, relative to the longer side
_PROMISED_BY_WRONG = 1.0  # gain in the quadratic approximation below which the camera is not estimated
# Where matches hardly show the focal length, one given as exact may be wrong: with this probability, by so
# much (standard deviation of its logarithm; matches show larger errors).
_GIVEN_IS_WRONG, _WRONG_BY = 0.1, 0.05
_DOUBTFUL = 0.2  # gain in the quadratic approximation above which the focal length is searched for


def contradicts(pose: Tensor, camera: Camera, observations: Observations) -> bool:
    """Whether the observations fit another focal length and principal point clearly better than `camera`."""
    given = CameraFit(pose, camera)
    observations = near_observations(given, observations)
    free = FOCAL + CENTER
    if len(observations) < FEWEST_MATCHES or promised_gain(given, free, observations) < _PROMISED_BY_WRONG:
        return False
    found = minimised(replace(given, free=free), observations)
    other = differs(found.camera, camera) and plausible(found)
    return other and likelihood_gain(given, found, observations) > _MIN_GAIN_OF_GIVEN


def doubt_of_given(pose: Tensor, camera: Camera, observations: Observations) -> Tensor | None:
    """What a focal length given as exact adds to the covariance [6, 6] of a pose [4, 4], as it may be wrong.

    Either it is right, or another one of a similar length is. The result is the second moment of both about
    the pose, weighed by their likelihood. None if there are too few matches, or if they determine nothing.
    """
    given = CameraFit(pose, camera)
    observations = near_observations(given, observations)
    if len(observations) < FEWEST_MATCHES:
        return None
    sums = cell_sums(given, observations).of([*range(POSE), *FOCAL])
    whole = sums.curvature.sum(0)
    independent = symmetric_inverse(whole)
    away = -(independent @ sums.gradient.sum(0))[LOG_FOCAL].item()
    variance = CALIBRATION * torch.maximum(jackknife(sums), independent)[LOG_FOCAL, LOG_FOCAL].item()
    if (
        away**2 > 2 * MATCHES_PER_ERROR * _DOUBTFUL * independent[LOG_FOCAL, LOG_FOCAL]
    ):  # one step does not suffice
        found = minimised(replace(given, free=FOCAL), observations)
        away = math.log(found.camera.fx / camera.fx)
        variance = camera_covariance(found, observations, exact=True)[FOCAL_ROW, FOCAL_ROW].item()
    if not (math.isfinite(away) and 0 < variance < math.inf):
        return None
    broad = _GIVEN_IS_WRONG * normal_density(away, variance + _WRONG_BY**2)
    total = broad + (1 - _GIVEN_IS_WRONG) * normal_density(away, variance)
    wrong = broad / total if total > 0 else 1.0
    shrunk = _WRONG_BY**2 / (variance + _WRONG_BY**2)
    follows = -symmetric_inverse(whole[:POSE, :POSE]) @ whole[:POSE, LOG_FOCAL]
    return wrong * ((shrunk * away) ** 2 + shrunk * variance) * torch.outer(follows, follows)


def differs(camera: Camera, given: Camera) -> bool:
    """Whether focal length or principal point differ by more than the error of a camera given as exact."""
    moved = max(abs(camera.cx - given.cx), abs(camera.cy - given.cy)) / max(given.width, given.height)
    return max(abs(math.log(camera.fx / given.fx)), moved) > _MIN_DIFFERENCE
