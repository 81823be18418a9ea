"""Pose and camera together, from 2D-3D matches of a camera that is not known exactly.

The focal length is estimated; radial distortion and the principal point are where the matches support them
(Akaike 1974). What was known of the focal length before, of EXIF data or of the map's own camera, is joined
with the estimate: either it is right, or the photo was cropped, zoomed or taken by another camera, and then
it says next to nothing. Both are weighed by the likelihood of the estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gsplatloc.localization.pose.camera.model import (
    CENTER,
    FEWEST_MATCHES,
    FOCAL,
    FOCAL_ROW,
    LOG_FOCAL,
    MATCHES_PER_ERROR,
    POSE,
    RADIAL,
    CameraFit,
    camera_covariance,
    cell_sums,
    errors_px,
    likelihood_gain,
    log_likelihood,
    minimised,
    near_observations,
    normal_density,
    plausible,
    promised_gain,
)
from gsplatloc.localization.pose.covariance import jackknife
from gsplatloc.localization.pose.reprojection import Observations, inlier_threshold_px
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

# What may be estimated beside the focal length, and the gain of log likelihood that it must bring: one per
# parameter (Akaike), more for a principal point that is not in the centre of an image of a usual shape, as
# photos are rarely cropped.
_PARTS = {CENTER: 2.0, RADIAL: 1.0}
_RARELY_CROPPED = 4.0  # logarithm of how many times more often
_USUAL_SHAPES = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 10, 16 / 9, 2.0, 19.5 / 9, 20 / 9)  # longer by shorter side
_SAME_SHAPE = 0.01  # relative; sides are whole pixels of a shrunk image
_MIN_GAIN_OF_KNOWN = 5.0  # where the camera is known, if it is the map's own
_NARROW = 0.8  # probability that what was known of the focal length is right
_BROAD = 0.5  # standard deviation of the logarithm of the focal length where it is not
_FAR_LOG = 50.0  # of a ratio of likelihoods that is as good as zero
_WORTH_TRYING = 0.2  # share of the needed gain that the quadratic approximation must promise


def fit_camera(
    start: CameraFit, known: Camera, observations: Observations, focal_sigma: float = math.inf
) -> CameraFit:
    """The camera and the pose near `start` of least robust reprojection error.

    `known` is the camera as it was known before, with the standard deviation `focal_sigma` of the logarithm
    of its focal length: infinite for a guess, 0 for a camera that is exactly this one, or another.
    `observations` are of pixels as they were taken, with unit sigma.
    """
    observations = near_observations(start, observations)
    if len(observations) < FEWEST_MATCHES:
        return replace(start, free=FOCAL)
    cropped = (start.camera.cx, start.camera.cy) != (known.cx, known.cy)
    best = minimised(replace(start, free=FOCAL + CENTER if cropped else FOCAL), observations)
    rejected: list[tuple[CameraFit, float]] = []
    for part in _PARTS:
        if part[0] in best.free:
            continue
        gain = _needed_gain(part, known)
        needed = max(gain, _MIN_GAIN_OF_KNOWN) if focal_sigma == 0 else gain
        # The promise is no guide to the principal point: a fit without it holds in a part of the image alone.
        if part == CENTER or promised_gain(best, part, observations) > _WORTH_TRYING * needed:
            found = minimised(replace(best, free=best.free + part), observations)
            gained = likelihood_gain(best, found, observations) - needed if plausible(found) else -math.inf
            if gained > 0:
                best = found
            elif part == CENTER:
                rejected.append((found, gained))
    joined = _joined(best, known, observations, focal_sigma)
    for other, gained in rejected:
        joined = _with_doubt(joined, other, gained)
    return joined


def _needed_gain(part: tuple[int, ...], camera: Camera) -> float:
    """The gain of log likelihood that estimating `part` must bring for an image of this size."""
    shape = max(camera.width, camera.height) / min(camera.width, camera.height)
    usual = any(abs(shape / other - 1) < _SAME_SHAPE for other in _USUAL_SHAPES)
    return _PARTS[part] + (_RARELY_CROPPED if part == CENTER and usual else 0.0)


def _with_doubt(fit: CameraFit, other: CameraFit, gained: float) -> CameraFit:
    """The fit, its covariance including that `other` may be right, which lacked `-gained` to be chosen.

    Added is the second moment of both about the fit, weighed by their likelihood.
    """
    away = se3.se3_log(other.cam_from_world @ se3.inverse(fit.cam_from_world))
    doubt = torch.outer(away, away) / (1 + math.exp(min(-gained, _FAR_LOG)))
    if fit.covariance is None or fit.camera_covariance is None:
        return fit
    covariances = fit.covariance + doubt, fit.camera_covariance + doubt
    return replace(fit, covariance=covariances[0], camera_covariance=covariances[1])


def likeliest(fits: Sequence[CameraFit], observations: Observations) -> CameraFit | None:
    """The fit with the highest likelihood, less what its parameters cost; errors beyond a limit are equal."""

    def likelihood(fit: CameraFit) -> float:
        limit = inlier_threshold_px(fit.camera)
        errors = errors_px(fit, observations).clip(max=limit)
        cost = sum(_needed_gain(part, fit.camera) for part in _PARTS if part[0] in fit.free)
        return log_likelihood(errors, limit / 4) / MATCHES_PER_ERROR - cost

    return max((fit for fit in fits if plausible(fit)), key=likelihood, default=None)


def _joined(fit: CameraFit, known: Camera, observations: Observations, focal_sigma: float) -> CameraFit:
    """The fit together with what was known of the focal length, and the covariance of the result."""
    exact = focal_sigma == 0 and not set(CENTER) <= set(fit.free)
    covariance = camera_covariance(fit, observations, exact)
    variance = covariance[FOCAL_ROW, FOCAL_ROW].item()
    away = math.log(fit.camera.fx / known.fx)
    # The principal point was a part of what was known of the map's camera.
    right = _probability(away, variance, focal_sigma) if exact or focal_sigma > 0 else 0.0
    if exact and right < 0.5:  # another camera of this shape: its centre and distortion are not known
        covariance = camera_covariance(fit, observations, exact=False)
        variance = covariance[FOCAL_ROW, FOCAL_ROW].item()
    joined, spread = _with_known(fit, away, covariance, focal_sigma if right >= 0.5 else _BROAD)
    if right >= 0.5:
        other = variance + (math.log(joined.camera.fx / fit.camera.fx)) ** 2
        kept = spread[FOCAL_ROW, FOCAL_ROW].item()
        extra = max(right * kept + (1 - right) * other - kept, 0.0)
    else:
        extra = right * away * away
    joined = minimised(replace(joined, free=tuple(c for c in fit.free if c != LOG_FOCAL)), observations)
    spread = spread.clone()
    spread[FOCAL_ROW, FOCAL_ROW] += extra
    return _with_covariance(replace(joined, free=fit.free, known_is_right=right >= 0.5), spread, observations)


def _probability(away: float, variance: float, focal_sigma: float) -> float:
    """That what was known of the focal length is right, given an estimate `away` from it (logarithm)."""
    if not math.isfinite(focal_sigma):
        return 0.0
    narrow = _NARROW * normal_density(away, variance + focal_sigma**2)
    broad = (1 - _NARROW) * normal_density(away, variance + _BROAD**2)
    return narrow / (narrow + broad) if narrow + broad > 0 else 0.0


def _with_known(
    fit: CameraFit, away: float, covariance: Tensor, focal_sigma: float
) -> tuple[CameraFit, Tensor]:
    """The fit with the mean of both focal lengths, and the camera's covariance (a Kalman update)."""
    gain = covariance[:, FOCAL_ROW] / (covariance[FOCAL_ROW, FOCAL_ROW] + focal_sigma**2)
    factor = math.exp(-gain[FOCAL_ROW].item() * away)
    camera = replace(fit.camera, fx=fit.camera.fx * factor, fy=fit.camera.fy * factor)
    return replace(fit, camera=camera), covariance - torch.outer(gain, covariance[FOCAL_ROW])


def _with_covariance(fit: CameraFit, camera: Tensor, observations: Observations) -> CameraFit:
    """The covariance of the pose where the camera is known, and what the camera's adds to it."""
    sums = cell_sums(fit, observations)
    whole = sums.curvature.sum(0)
    pose = jackknife(sums.of([*range(POSE)]))
    scale = whole[:POSE, :POSE].diagonal().clamp(min=1e-12).rsqrt()
    normal = scale[:, None] * whole[:POSE, :POSE] * scale + 1e-9 * torch.eye(POSE, dtype=torch.float64)
    follows = -scale[:, None] * torch.linalg.solve(normal, scale[:, None] * whole[:POSE, POSE:])
    added = follows @ camera @ follows.T
    return replace(fit, covariance=pose + added, camera_covariance=added)
