"""Pose and camera together, from 2D-3D matches of a camera that is not known exactly.

The focal length is estimated; radial distortion and the principal point are where the matches support them
(Akaike 1974). What was known of the focal length before, of EXIF data or of the map's own camera, is joined
with the estimate: either it is right, or the photo was cropped, zoomed or taken by another camera, and then
it says next to nothing. Both are weighed by the likelihood of the estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.pose import reprojection
from gsplatloc.localization.pose.covariance import Grid, GridSums, jackknife, symmetric_inverse
from gsplatloc.localization.pose.reprojection import Linear, Observations, inlier_threshold_px
from gsplatloc.localization.queries import FOCAL_RANGE
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import robust, se3

POSE = 6  # unknowns of a pose; those of the camera follow
_FOCAL, _CENTER, _RADIAL = (6,), (7, 8), (9,)  # columns: log focal length; pixels; k
_UNKNOWNS = range(10)
_MATCHES_PER_ERROR = 8.0  # matches that share an error, as in `localization.landmarks.guided`
# What may be estimated beside the focal length, and the gain of log likelihood that it must bring: one per
# parameter (Akaike), more for a principal point that is not in the centre of an image of a usual shape, as
# photos are rarely cropped.
_PARTS = {_CENTER: 2.0, _RADIAL: 1.0}
_RARELY_CROPPED = 4.0  # logarithm of how many times more often
_USUAL_SHAPES = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 10, 16 / 9, 2.0, 19.5 / 9, 20 / 9)  # longer by shorter side
_SAME_SHAPE = 0.01  # relative; sides are whole pixels of a shrunk image
_MIN_GAIN_OF_KNOWN = 5.0  # where the camera is known, if it is the map's own
# Variance of camera parameters relative to the jackknife's: the map's errors reach further than its cells.
# Measured on held-out views of RedKitchen, cropped and enlarged.
_CALIBRATION = 2.25
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
_CENTER_SIGMA, _RADIAL_SIGMA = 0.01, 0.03  # of lenses: relative to the longer side; k
_EXACTLY = 1e8  # factor of the precision of what is known exactly
_NARROW = 0.8  # probability that what was known of the focal length is right
_BROAD = 0.5  # standard deviation of the logarithm of the focal length where it is not
_LOSS = 0.5  # scale of the robust loss, relative to the noise of a match, as in the other solvers
_MIN_NOISE_PX = 0.1
_FAR_LOG = 50.0  # of a ratio of likelihoods that is as good as zero
_FAR_PX = 1e6  # stands for an infinite error
_FEWEST = 10  # matches to estimate a camera from
_PASSES = 5  # of estimating the noise and the unknowns in turn
_ITERATIONS = 8  # of Levenberg-Marquardt per pass
_CONVERGED = 1e-3  # of the noise: motion of the pixels by a step
_WORTH_TRYING = 0.2  # share of the needed gain that the quadratic approximation must promise
_REACH = 6.0  # inlier thresholds: matches farther off at the start are wrong
_CENTER_RANGE = (-2.0, 3.0)  # relative to the sides: the middle of the photo that a part was cut out of


@dataclass(frozen=True)
class CameraFit:
    """A pose with the camera that was estimated with it."""

    cam_from_world: Tensor  # [4, 4] float64
    camera: Camera
    distortion: float = 0.0  # k of SIMPLE_RADIAL
    free: tuple[int, ...] = ()  # columns of the camera that were estimated
    known_is_right: bool = False  # whether what was known of the focal length proved right
    covariance: Tensor | None = None  # [6, 6] of the pose, with the camera's uncertainty
    camera_covariance: Tensor | None = None  # [6, 6], the part of it that is due to the camera


def fit_camera(
    start: CameraFit, known: Camera, observations: Observations, focal_sigma: float = math.inf
) -> CameraFit:
    """The camera and the pose near `start` of least robust reprojection error.

    `known` is the camera as it was known before, with the standard deviation `focal_sigma` of the logarithm
    of its focal length: infinite for a guess, 0 for a camera that is exactly this one, or another.
    `observations` are of pixels as they were taken, with unit sigma.
    """
    near = torch.from_numpy(errors_px(start, observations) < _REACH * inlier_threshold_px(known))
    observations = observations.select(near)
    if len(observations) < _FEWEST:
        return replace(start, free=_FOCAL)
    cropped = (start.camera.cx, start.camera.cy) != (known.cx, known.cy)
    best = _minimised(replace(start, free=_FOCAL + _CENTER if cropped else _FOCAL), observations)
    rejected: list[tuple[CameraFit, float]] = []
    for part in _PARTS:
        if part[0] in best.free:
            continue
        gain = _needed_gain(part, known)
        needed = max(gain, _MIN_GAIN_OF_KNOWN) if focal_sigma == 0 else gain
        # The promise is no guide to the principal point: a fit without it holds in a part of the image alone.
        if part == _CENTER or _promised_gain(best, part, observations) > _WORTH_TRYING * needed:
            found = _minimised(replace(best, free=best.free + part), observations)
            gained = _gain(best, found, observations) - needed if _plausible(found) else -math.inf
            if gained > 0:
                best = found
            elif part == _CENTER:
                rejected.append((found, gained))
    joined = _joined(best, known, observations, focal_sigma)
    for other, gained in rejected:
        joined = _with_doubt(joined, other, gained)
    return joined


def contradicts(pose: Tensor, camera: Camera, observations: Observations) -> bool:
    """Whether the observations fit another focal length and principal point clearly better than `camera`."""
    given = CameraFit(pose, camera)
    near = torch.from_numpy(errors_px(given, observations) < _REACH * inlier_threshold_px(camera))
    observations = observations.select(near)
    free = _FOCAL + _CENTER
    if len(observations) < _FEWEST or _promised_gain(given, free, observations) < _PROMISED_BY_WRONG:
        return False
    found = _minimised(replace(given, free=free), observations)
    other = differs(found.camera, camera) and _plausible(found)
    return other and _gain(given, found, observations) > _MIN_GAIN_OF_GIVEN


def doubt_of_given(pose: Tensor, camera: Camera, observations: Observations) -> Tensor | None:
    """The covariance [6, 6] of a pose [4, 4] that a focal length given as exact may be wrong.

    Either it is right, or another one of a similar length is: of both, weighed by their likelihood, the
    second moment about the pose. None where too few matches tell, or none does.
    """
    given, columns = CameraFit(pose, camera), torch.tensor([*range(POSE), *_FOCAL])
    near = torch.from_numpy(errors_px(given, observations) < _REACH * inlier_threshold_px(camera))
    observations = observations.select(near)
    if len(observations) < _FEWEST:
        return None
    sums = _sums(given, observations)
    sums = GridSums(sums.curvature[:, columns][:, :, columns], sums.gradient[:, columns])
    whole = sums.curvature.sum(0)
    independent = symmetric_inverse(whole)
    away = -(independent @ sums.gradient.sum(0))[POSE].item()
    variance = _CALIBRATION * torch.maximum(jackknife(sums), independent)[POSE, POSE].item()
    if away**2 > 2 * _MATCHES_PER_ERROR * _DOUBTFUL * independent[POSE, POSE]:  # one step does not suffice
        found = _minimised(replace(given, free=_FOCAL), observations)
        away = math.log(found.camera.fx / camera.fx)
        variance = _camera_covariance(found, observations, exact=True)[0, 0].item()
    if not (math.isfinite(away) and 0 < variance < math.inf):
        return None
    broad = _GIVEN_IS_WRONG * _density(away, variance + _WRONG_BY**2)
    total = broad + (1 - _GIVEN_IS_WRONG) * _density(away, variance)
    wrong = broad / total if total > 0 else 1.0
    shrunk = _WRONG_BY**2 / (variance + _WRONG_BY**2)
    follows = -symmetric_inverse(whole[:POSE, :POSE]) @ whole[:POSE, POSE]
    return wrong * ((shrunk * away) ** 2 + shrunk * variance) * torch.outer(follows, follows)


def differs(camera: Camera, given: Camera) -> bool:
    """Whether focal length or principal point differ by more than the error of a camera given as exact."""
    moved = max(abs(camera.cx - given.cx), abs(camera.cy - given.cy)) / max(given.width, given.height)
    return max(abs(math.log(camera.fx / given.fx)), moved) > _MIN_DIFFERENCE


def _needed_gain(part: tuple[int, ...], camera: Camera) -> float:
    """The gain of log likelihood that estimating `part` must bring for an image of this size."""
    shape = max(camera.width, camera.height) / min(camera.width, camera.height)
    usual = any(abs(shape / other - 1) < _SAME_SHAPE for other in _USUAL_SHAPES)
    return _PARTS[part] + (_RARELY_CROPPED if part == _CENTER and usual else 0.0)


def _with_doubt(fit: CameraFit, other: CameraFit, gained: float) -> CameraFit:
    """The fit with the error that it has if `other` is right, which lacked `-gained` to be chosen.

    Of both, weighed by their likelihood, the second moment about the fit.
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
        return log_likelihood(errors, limit / 4) / _MATCHES_PER_ERROR - cost

    return max((fit for fit in fits if _plausible(fit)), key=likelihood, default=None)


def errors_px(fit: CameraFit, observations: Observations) -> np.ndarray:
    """Reprojection errors [M] in pixels of the distorted image; infinite behind the camera."""
    seen = _seen(fit, observations)
    return np.where(seen.in_front, np.hypot(seen.column, seen.row), np.inf)


def log_likelihood(errors: np.ndarray, noise: float) -> float:
    """Of errors [M] of a Cauchy distribution, up to a constant: robust against wrong matches."""
    return -float(np.log1p((errors / noise) ** 2 / 2).sum())


def _gain(base: CameraFit, found: CameraFit, observations: Observations) -> float:
    """Gain of log likelihood of `found`, over the matches that are inliers of either fit."""
    before, after = errors_px(base, observations), errors_px(found, observations)
    limit = inlier_threshold_px(base.camera)
    either = np.minimum(before, after) < limit
    noise = _noise(after, limit)
    old, new = (log_likelihood(errors[either].clip(max=_FAR_PX), noise) for errors in (before, after))
    return (new - old) / _MATCHES_PER_ERROR


def _promised_gain(base: CameraFit, part: tuple[int, ...], observations: Observations) -> float:
    """The gain of estimating `part`, too, in the quadratic approximation at `base`."""
    noise = _noise(errors_px(base, observations), inlier_threshold_px(base.camera))
    columns = [*range(POSE), *base.free, *part]
    linear = _linear(base, _seen(base, observations), observations.weight, noise, columns)
    information, gradient = reprojection.summed(linear)
    scale = np.sqrt(np.maximum(information.diagonal(), 1e-12))
    normal = information / scale / scale[:, None] + 1e-9 * np.eye(len(scale))
    return float(gradient / scale @ np.linalg.solve(normal, gradient / scale)) / (2 * _MATCHES_PER_ERROR)


def _noise(errors: np.ndarray, limit: float) -> float:
    """Robust standard deviation per coordinate of the errors of inliers."""
    inliers = errors[errors < limit]
    return max(reprojection.noise_px(torch.from_numpy(inliers)), _MIN_NOISE_PX) if len(inliers) else limit


def _plausible(fit: CameraFit) -> bool:
    """Whether a lens could be so: its focal length, its centre, and no fold within the image."""
    camera = fit.camera
    low, high = FOCAL_RANGE
    inside = all(
        _CENTER_RANGE[0] * side < center < _CENTER_RANGE[1] * side
        for center, side in ((camera.cx, camera.width), (camera.cy, camera.height))
    )
    reach_x, reach_y = max(camera.cx, camera.width - camera.cx), max(camera.cy, camera.height - camera.cy)
    farthest = math.hypot(reach_x, reach_y) / camera.fx
    focal = low < camera.fx / max(camera.width, camera.height) < high
    return focal and inside and 1 + 3 * fit.distortion * farthest**2 > 0


def _minimised(start: CameraFit, observations: Observations) -> CameraFit:
    """The fit of least robust error near `start`, over its free parameters."""
    fit, limit = start, inlier_threshold_px(start.camera)
    for number in range(_PASSES):
        noise = _noise(errors_px(fit, observations), limit)
        if _CENTER[0] in fit.free:  # from far away: what holds in a part of the image alone is left behind
            noise = max(noise, limit * 0.5**number)
        fit, moved = _descended(fit, observations, _LOSS * noise)
        if moved < 10 * _CONVERGED * noise:
            break
    return fit


def _descended(fit: CameraFit, observations: Observations, sigma: float) -> tuple[CameraFit, float]:
    """Levenberg-Marquardt at one noise level, and the size of the first step."""
    columns = [*range(POSE), *fit.free]
    seen = _seen(fit, observations)
    cost = robust.cost(seen.squares(sigma)).sum()
    damping, first, normal_equations = 1e-6, 0.0, None
    for _ in range(_ITERATIONS):
        if normal_equations is None:
            normal_equations = reprojection.summed(_linear(fit, seen, observations.weight, sigma, columns))
        information, gradient = normal_equations
        scale = np.sqrt(np.maximum(information.diagonal(), 1e-12))
        normal = information / scale / scale[:, None] + damping * np.eye(len(columns))
        step = -np.linalg.solve(normal, gradient / scale) / scale
        candidate = _moved(fit, step)
        tried = _seen(candidate, observations)
        tried_cost = robust.cost(tried.squares(sigma)).sum()
        if tried_cost <= cost:
            fit, seen, cost, normal_equations, damping = candidate, tried, tried_cost, None, damping * 0.1
            size = sigma * float(np.abs(step * scale).max()) / math.sqrt(max(len(observations), 1))
            first = max(first, size)
            if size < _CONVERGED * sigma:
                break
        else:
            damping = max(damping, 1e-6) * 10
    return fit, first


def _moved(fit: CameraFit, step: np.ndarray) -> CameraFit:
    change = dict(zip(fit.free, step[POSE:].tolist()))
    factor = math.exp(min(max(change.get(6, 0.0), -1.0), 1.0))
    camera = fit.camera
    camera = replace(
        camera,
        fx=camera.fx * factor,
        fy=camera.fy * factor,
        cx=camera.cx + change.get(7, 0.0),
        cy=camera.cy + change.get(8, 0.0),
    )
    pose = torch.from_numpy(se3.se3_exp_numpy(step[:POSE])) @ fit.cam_from_world
    return replace(fit, cam_from_world=pose, camera=camera, distortion=fit.distortion + change.get(9, 0.0))


class _Seen(NamedTuple):
    """Where the points of matches are seen, and by how much beside their pixels; matches last."""

    a: np.ndarray  # [M] x / z
    b: np.ndarray  # [M] y / z
    inverse: np.ndarray  # [M] 1 / z
    distortion: np.ndarray | float  # [M] 1 + k (a^2 + b^2)
    column: np.ndarray  # [M] pixels, errors
    row: np.ndarray  # [M]
    in_front: np.ndarray  # [M] bool

    def squares(self, sigma: float) -> np.ndarray:
        """|error / (2 sigma)|^2 [M]; far too large behind the camera."""
        squares = (self.column * self.column + self.row * self.row) / (2 * sigma) ** 2
        return squares if self.in_front.all() else np.where(self.in_front, squares, 1e6)


def _seen(fit: CameraFit, observations: Observations) -> _Seen:
    """A point at normalised (a, b) is seen at (cx + f d a, cy + f d b) with d = 1 + k (a^2 + b^2)."""
    camera, k, pose = fit.camera, fit.distortion, fit.cam_from_world.numpy()
    pixels, points = observations.pixels.numpy(), observations.points.numpy()
    local = pose[:3, :3] @ points.T + pose[:3, 3:]
    in_front = local[2] > reprojection.MIN_DEPTH
    x, y, z = local if in_front.all() else np.where(in_front, local, 1.0)
    inverse = 1 / z
    a, b = x * inverse, y * inverse
    d = 1 + k * (a * a + b * b) if k else 1.0
    column = camera.fx * d * a + camera.cx - pixels[:, 0]
    row = camera.fy * d * b + camera.cy - pixels[:, 1]
    return _Seen(a, b, inverse, d, column, row, in_front)


def _linear(
    fit: CameraFit, seen: _Seen, weight: Tensor, sigma: float, columns: Sequence[int] = _UNKNOWNS
) -> Linear:
    """Errors with their derivatives by the unknowns in `columns`, at noise `sigma`; `weight` [M]."""
    camera, k, (a, b, inverse, d, column, row, in_front) = fit.camera, fit.distortion, seen
    by_a, by_b = reprojection.ray_derivatives(a, b, inverse)
    d_column, d_row = np.zeros((2, len(columns), len(a)))
    if k:
        mixed = 2 * k * a * b
        by_a, by_b = (d + 2 * k * a * a) * by_a + mixed * by_b, mixed * by_a + (d + 2 * k * b * b) * by_b
    np.multiply(camera.fx, by_a, out=d_column[:POSE])
    np.multiply(camera.fy, by_b, out=d_row[:POSE])
    for place, unknown in enumerate(columns[POSE:], POSE):
        if unknown in _FOCAL:
            d_column[place], d_row[place] = camera.fx * d * a, camera.fy * d * b
        elif unknown in _RADIAL:
            radius = a * a + b * b
            d_column[place], d_row[place] = camera.fx * radius * a, camera.fy * radius * b
        else:
            (d_column if unknown == _CENTER[0] else d_row)[place] = 1.0
    square = seen.squares(sigma)
    weights = weight.numpy() * in_front * robust.weight(square) / sigma**2
    return Linear(d_column, d_row, column, row, weights, square)


def _sums(fit: CameraFit, observations: Observations) -> GridSums:
    """The normal equations of the pose and of all unknowns of the camera, for each cell of the image."""
    noise = _noise(errors_px(fit, observations), inlier_threshold_px(fit.camera))
    linear = _linear(fit, _seen(fit, observations), observations.weight, _LOSS * noise)
    grid = Grid.over(observations.pixels)
    return reprojection.cell_sums(linear, grid.index(observations.pixels), len(grid))


def _camera_covariance(fit: CameraFit, observations: Observations, exact: bool) -> Tensor:
    """The covariance [4, 4] of the camera's unknowns, as the matches have it.

    What was not estimated is uncertain, too: lenses are not quite centred nor quite free of distortion. Only
    of a camera that is `exact` it is known.
    """
    sums, columns = _sums(fit, observations), torch.tensor([*range(POSE), *fit.free])
    whole = sums.curvature.sum(0)
    free = jackknife(GridSums(sums.curvature[:, columns][:, :, columns], sums.gradient[:, columns]))
    independent = symmetric_inverse(whole[columns][:, columns])
    sigmas = torch.tensor(
        [1.0, *[_CENTER_SIGMA * max(fit.camera.width, fit.camera.height)] * 2, _RADIAL_SIGMA]
    )
    precision = torch.zeros(len(whole), dtype=torch.float64)
    precision[POSE:] = (_EXACTLY if exact else 1.0) / sigmas.double() ** 2
    precision[columns] = 0.0
    share = (independent[POSE, POSE] / free[POSE, POSE]).clamp(max=1.0)  # of independent residuals
    return symmetric_inverse(share / _CALIBRATION * whole + precision.diag())[POSE:, POSE:]


def _joined(fit: CameraFit, known: Camera, observations: Observations, focal_sigma: float) -> CameraFit:
    """The fit together with what was known of the focal length, and the covariance of the result."""
    exact = focal_sigma == 0 and not set(_CENTER) <= set(fit.free)
    covariance = _camera_covariance(fit, observations, exact)
    variance = covariance[0, 0].item()
    away = math.log(fit.camera.fx / known.fx)
    # The principal point was a part of what was known of the map's camera.
    right = _probability(away, variance, focal_sigma) if exact or focal_sigma > 0 else 0.0
    if exact and right < 0.5:  # another camera of this shape: its centre and distortion are not known
        covariance = _camera_covariance(fit, observations, exact=False)
        variance = covariance[0, 0].item()
    joined, spread = _with_known(fit, away, covariance, focal_sigma if right >= 0.5 else _BROAD)
    if right >= 0.5:
        other = variance + (math.log(joined.camera.fx / fit.camera.fx)) ** 2
        extra = max(right * spread[0, 0].item() + (1 - right) * other - spread[0, 0].item(), 0.0)
    else:
        extra = right * away * away
    joined = _minimised(replace(joined, free=tuple(c for c in fit.free if c != 6)), observations)
    spread = spread.clone()
    spread[0, 0] += extra
    return _with_covariance(replace(joined, free=fit.free, known_is_right=right >= 0.5), spread, observations)


def _probability(away: float, variance: float, focal_sigma: float) -> float:
    """That what was known of the focal length is right, given an estimate `away` from it (logarithm)."""
    if not math.isfinite(focal_sigma):
        return 0.0
    narrow = _NARROW * _density(away, variance + focal_sigma**2)
    broad = (1 - _NARROW) * _density(away, variance + _BROAD**2)
    return narrow / (narrow + broad) if narrow + broad > 0 else 0.0


def _density(x: float, variance: float) -> float:
    return math.exp(-x * x / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def _with_known(
    fit: CameraFit, away: float, covariance: Tensor, focal_sigma: float
) -> tuple[CameraFit, Tensor]:
    """The fit with the mean of both focal lengths, and the camera's covariance (a Kalman update)."""
    gain = covariance[:, 0] / (covariance[0, 0] + focal_sigma**2)
    factor = math.exp(-gain[0].item() * away)
    camera = replace(fit.camera, fx=fit.camera.fx * factor, fy=fit.camera.fy * factor)
    return replace(fit, camera=camera), covariance - torch.outer(gain, covariance[0])


def _with_covariance(fit: CameraFit, camera: Tensor, observations: Observations) -> CameraFit:
    """The covariance of the pose where the camera is known, and what the camera's adds to it."""
    sums = _sums(fit, observations)
    whole = sums.curvature.sum(0)
    pose = jackknife(GridSums(sums.curvature[:, :POSE, :POSE], sums.gradient[:, :POSE]))
    scale = whole[:POSE, :POSE].diagonal().clamp(min=1e-12).rsqrt()
    normal = scale[:, None] * whole[:POSE, :POSE] * scale + 1e-9 * torch.eye(POSE, dtype=torch.float64)
    follows = -scale[:, None] * torch.linalg.solve(normal, scale[:, None] * whole[:POSE, POSE:])
    added = follows @ camera @ follows.T
    return replace(fit, covariance=pose + added, camera_covariance=added)
