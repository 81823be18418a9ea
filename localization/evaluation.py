"""Accuracy of localizations: pure functions from estimates and ground truth to figures.

A query without an estimate has infinite error and stays in every denominator.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.utils import se3

# Name -> (centimetres, degrees). A query counts when both errors are strictly below.
RECALL_THRESHOLDS = {"10cm_5deg": (10, 5), "5cm_5deg": (5, 5), "2cm_2deg": (2, 2), "1cm_1deg": (1, 1)}

_NEAR, _GROSS = (0.1, 5.0), (0.25, 5.0)  # metres and degrees of right and of wrong poses
_RMS_PER_MEDIAN = 1.126  # RMS over median of the length of a normally distributed 3-vector


@dataclass(frozen=True)
class PoseError:
    """Errors of an estimate against ground truth."""

    translation_m: float  # between the camera centres
    rotation_deg: float
    cam_from_world_t_m: float  # |t_gt - t_est| of cam_from_world: "translation error" in the original code


FAILED = PoseError(float("inf"), float("inf"), float("inf"))


@dataclass(frozen=True)
class Accuracy:
    """Summary of the errors of many queries; None if no query has ground truth."""

    median_translation_m: float | None
    median_rotation_deg: float | None
    median_cam_from_world_t_difference_m: float | None
    p90_translation_m: float | None
    recall: dict[str, float]  # fraction of all queries below each of RECALL_THRESHOLDS


@dataclass(frozen=True)
class QueryResult:
    """A localized query with its ground truth."""

    name: str
    localization: Localization
    truth: Tensor | None = None  # [4, 4] float64, ground truth of cam_from_world
    reason: str = ""  # why the image could not be read
    image: Path | None = None  # its file


def pose_error(estimate: Tensor | None, truth: Tensor) -> PoseError:
    """Errors of an estimate [4, 4]; all are infinite if it is None."""
    if estimate is None:
        return FAILED
    translation, rotation = pose_distances(estimate[None], truth[None])
    difference = (estimate[:3, 3] - truth[:3, 3]).norm()
    return PoseError(translation.item(), rotation.item(), difference.item())


def pose_distances(estimates: Tensor, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Metres between the camera centres and degrees between the rotations [N] of poses [N, 4, 4]."""
    translation = (se3.camera_center(estimates) - se3.camera_center(truths)).norm(dim=1)
    rotation = se3.so3_log(estimates[:, :3, :3] @ truths[:, :3, :3].transpose(1, 2)).norm(dim=1)
    return translation, rotation.rad2deg()


def accuracy(errors: Sequence[PoseError]) -> Accuracy:
    """Medians, 90th percentile and recalls. The median is infinite if half of the queries or more failed."""
    if not errors:
        return Accuracy(None, None, None, None, {})
    translation = np.array([error.translation_m for error in errors])
    rotation = np.array([error.rotation_deg for error in errors])
    difference = np.array([error.cam_from_world_t_m for error in errors])
    return Accuracy(
        median_translation_m=quantile(translation, 0.5),
        median_rotation_deg=quantile(rotation, 0.5),
        median_cam_from_world_t_difference_m=quantile(difference, 0.5),
        p90_translation_m=quantile(translation, 0.9),
        recall=recalls(translation, rotation),
    )


def recalls(translation_m: np.ndarray, rotation_deg: np.ndarray) -> dict[str, float]:
    """Fraction of queries below each threshold; infinite errors count as misses."""
    return {
        name: float(np.mean((translation_m < centimetres / 100) & (rotation_deg < degrees)))
        for name, (centimetres, degrees) in RECALL_THRESHOLDS.items()
    }


def quantile(values: np.ndarray, fraction: float) -> float:
    """The linearly interpolated quantile; interpolating towards infinity is infinite, never NaN."""
    position = fraction * (len(values) - 1)
    ordered = np.sort(values)
    low, high = ordered[int(np.floor(position))], ordered[int(np.ceil(position))]
    return float(low) if low == high else float(low + (position % 1) * (high - low))


def stage_error(result: QueryResult, stage: str | None) -> PoseError | None:
    """The error after a stage (None = the last that ran); None without ground truth.

    A stage that was skipped because an earlier one failed counts as failed.
    """
    if result.truth is None:
        return None
    estimate = result.localization.final if stage is None else result.localization.stages.get(stage)
    return pose_error(estimate.cam_from_world if estimate else None, result.truth)


@dataclass(frozen=True)
class CalibrationBin:
    """Queries with similar predicted errors."""

    count: int
    predicted_translation_m: float  # median of the errors that the covariances predict
    actual_translation_m: float  # actual error; equal to the predicted one if covariances are calibrated
    predicted_rotation_deg: float
    actual_rotation_deg: float


def calibration(
    results: Sequence[QueryResult], stage: str | None = None, bins: int = 5
) -> list[CalibrationBin]:
    """Predicted and actual errors of successful queries with ground truth, in bins of equal size.

    The actual error of a bin is its median, scaled to the root mean square of a normal distribution: one
    wrong pose would dominate the mean.
    """
    rows = [row for result in results if (row := _predicted_and_actual(result, stage)) is not None]
    rows.sort()
    parts = [part for part in np.array_split(np.array(rows).reshape(-1, 4), bins) if len(part)]
    middles = [np.median(part, axis=0) for part in parts]
    return [
        CalibrationBin(len(part), float(m[0]), float(m[1]) * _RMS_PER_MEDIAN, float(m[2]),
                       float(m[3]) * _RMS_PER_MEDIAN)
        for part, m in zip(parts, middles)
    ]  # fmt: skip


def _predicted_and_actual(result: QueryResult, stage: str | None) -> tuple[float, float, float, float] | None:
    estimate, error = _estimate(result, stage), stage_error(result, stage)
    if estimate is None or error is None or not estimate.ok:
        return None
    translation, rotation = estimate.expected_translation_m, estimate.expected_rotation_deg
    if translation is None or rotation is None:
        return None
    return translation, error.translation_m, rotation, error.rotation_deg


@dataclass(frozen=True)
class ThresholdCurve:
    """What a threshold on the verification score accepts, for every threshold in turn."""

    thresholds: list[float]  # ascending: the scores themselves
    recall: list[float]  # share of all queries that are accepted and within 10 cm and 5 degrees
    false: list[float]  # share of all queries that are accepted and off by more than 25 cm or 5 degrees


def threshold_curve(errors: Sequence[PoseError], scores: Sequence[float]) -> ThresholdCurve:
    """The curve of queries with these errors and scores; a query without a pose has the score -inf."""
    translation = np.array([error.translation_m for error in errors])
    rotation = np.array([error.rotation_deg for error in errors])
    right = (translation < _NEAR[0]) & (rotation < _NEAR[1])
    wrong = (translation > _GROSS[0]) | (rotation > _GROSS[1])
    thresholds = sorted({score for score in scores if score > -np.inf})
    accepted = [np.array(scores) >= threshold for threshold in thresholds]
    return ThresholdCurve(
        thresholds,
        [float((right & some).mean()) for some in accepted],
        [float((wrong & some).mean()) for some in accepted],
    )


def metrics(scene: str, results: Sequence[QueryResult], map_bytes: int, stages: Sequence[str]) -> dict:
    """The content of metrics.json. `stages`: names of the chosen stages, in order."""
    localizations = [result.localization for result in results]
    statuses = Counter(str(localization.status) for localization in localizations)
    totals = [localization.total_ms for localization in localizations]
    return {
        "scene": scene,
        "count": len(results),
        "failed": sum(not localization.final.ok for localization in localizations),
        "unverified": statuses[Status.UNVERIFIED],
        "statuses": dict(statuses.most_common()),
        "stages": {stage: _stage_metrics(results, stage) for stage in stages},
        "final": _stage_metrics(results, None),
        "features_median_ms": _median([localization.features_ms for localization in localizations]),
        "total_median_ms": _median(totals),
        "map_bytes": map_bytes,
    }


def _stage_metrics(results: Sequence[QueryResult], stage: str | None) -> dict:
    """Accuracy and cost after one stage; the time of the final entry is that of the whole query."""
    errors = [error for result in results if (error := stage_error(result, stage)) is not None]
    estimates = [_estimate(result, stage) for result in results]
    ran = [estimate for estimate in estimates if estimate is not None]
    elapsed = (
        [result.localization.total_ms for result in results] if stage is None else [e.elapsed_ms for e in ran]
    )
    return {
        **asdict(accuracy(errors)),
        "failed": sum(estimate is None or not estimate.ok for estimate in estimates),
        "median_inliers": _median([float(estimate.inliers) for estimate in ran]),
        "accepted": sum(estimate.ok and estimate.accepted for estimate in ran),
        "median_ms": _median(elapsed),
    }


def _estimate(result: QueryResult, stage: str | None) -> PoseEstimate | None:
    return result.localization.final if stage is None else result.localization.stages.get(stage)


def _median(values: Sequence[float]) -> float | None:
    return quantile(np.array(values), 0.5) if values else None
