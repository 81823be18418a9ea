"""Figures of merit, on small sets by hand and on published estimates."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.localization.evaluation import (
    FAILED,
    Accuracy,
    PoseError,
    QueryResult,
    accuracy,
    calibration,
    metrics,
    pose_error,
    quantile,
    threshold_curve,
)
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

CAMERA = Camera(640, 480, 500.0, 500.0, 320.0, 240.0)
SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
INFINITY = float("inf")


def moved(pose: torch.Tensor, meters: float, degrees: float) -> torch.Tensor:
    """`pose` with its centre moved and its camera turned about that centre."""
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = se3.so3_exp(torch.tensor([0.0, np.radians(degrees), 0.0], dtype=torch.float64))
    shift = torch.eye(4, dtype=torch.float64)
    shift[0, 3] = meters
    return turn @ shift @ pose


TRUTH = se3.se3_exp(torch.tensor([1.0, 2.0, 3.0, 0.4, 0.5, 0.6], dtype=torch.float64))


def test_errors_are_between_centres_and_in_degrees() -> None:
    error = pose_error(moved(TRUTH, 0.02, 3.0), TRUTH)
    assert error.translation_m == pytest.approx(0.02)
    assert error.rotation_deg == pytest.approx(3.0)


def test_the_originals_translation_error_differs_under_rotation() -> None:
    error = pose_error(moved(TRUTH, 0.0, 3.0), TRUTH)
    assert error.translation_m == pytest.approx(0.0, abs=1e-12)
    assert error.cam_from_world_t_m > 0.05


def test_failures_stay_in_the_denominator() -> None:
    good = PoseError(0.004, 0.1, 0.004)
    found = accuracy([good, good, good, FAILED])
    assert found.recall == {"10cm_5deg": 0.75, "5cm_5deg": 0.75, "2cm_2deg": 0.75, "1cm_1deg": 0.75}
    assert found.median_translation_m == 0.004


def test_half_failed_has_an_infinite_median() -> None:
    found = accuracy([PoseError(0.004, 0.1, 0.004), FAILED])
    assert found.median_translation_m == INFINITY


def test_recall_needs_both_errors_strictly_below() -> None:
    found = accuracy([PoseError(0.05, 0.1, 0), PoseError(0.04, 5.0, 0), PoseError(0.04, 4.9, 0)])
    assert found.recall["5cm_5deg"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_quantile_of_finite_values_is_numpys(fraction: float) -> None:
    values = np.random.default_rng(0).random(17)
    assert quantile(values, fraction) == pytest.approx(np.quantile(values, fraction))


def test_quantile_towards_infinity_is_infinite() -> None:
    assert quantile(np.array([1.0, INFINITY]), 0.5) == INFINITY
    assert quantile(np.array([INFINITY, INFINITY]), 0.5) == INFINITY


def estimate(meters: float, ms: float) -> PoseEstimate:
    return PoseEstimate(Status.OK, CAMERA, moved(TRUTH, meters, 0.1), inliers=50, elapsed_ms=ms)


def failed(ms: float) -> PoseEstimate:
    return PoseEstimate(Status.NO_CONSENSUS, CAMERA, elapsed_ms=ms)


@pytest.fixture
def results() -> list[QueryResult]:
    """Two good queries and one whose prior failed, so that its refinement was skipped."""
    good = Localization({"initial": estimate(0.015, 100), "fine": estimate(0.005, 30)}, features_ms=40)
    return [
        QueryResult("a", good, TRUTH),
        QueryResult("b", good, TRUTH),
        QueryResult("c", Localization({"initial": failed(10)}, features_ms=40), TRUTH),
    ]


def test_metrics_have_the_contracts_keys(results: list[QueryResult]) -> None:
    found = metrics("kitchen", results, 123, ("initial", "fine"))
    assert {"scene", "count", "failed", "stages", "final", "total_median_ms", "map_bytes"} <= set(found)
    keys = {"median_translation_m", "median_rotation_deg", "recall", "median_ms"}
    for row in (*found["stages"].values(), found["final"]):
        assert keys <= set(row)
        assert list(row["recall"]) == ["10cm_5deg", "5cm_5deg", "2cm_2deg", "1cm_1deg"]
    assert (found["scene"], found["count"], found["failed"], found["map_bytes"]) == ("kitchen", 3, 1, 123)


def test_skipped_stages_count_as_failed(results: list[QueryResult]) -> None:
    found = metrics("kitchen", results, 123, ("initial", "fine"))
    assert found["stages"]["initial"]["recall"]["2cm_2deg"] == pytest.approx(2 / 3)
    assert found["stages"]["fine"]["recall"]["1cm_1deg"] == pytest.approx(2 / 3)
    assert found["stages"]["fine"]["failed"] == 1
    assert found["final"] | {"median_ms": 0} == found["stages"]["fine"] | {
        "median_ms": 0,
        "median_inliers": found["final"]["median_inliers"],
    }


def test_time_of_a_query_includes_its_features(results: list[QueryResult]) -> None:
    found = metrics("kitchen", results, 123, ("initial", "fine"))
    assert found["total_median_ms"] == found["final"]["median_ms"] == 170
    assert found["stages"]["fine"]["median_ms"] == 30


def test_without_truth_there_are_no_errors(results: list[QueryResult]) -> None:
    blind = [QueryResult(result.name, result.localization) for result in results]
    found = metrics("photos", blind, 1, ("initial", "fine"))
    assert found["final"]["median_translation_m"] is None
    assert found["final"]["recall"] == {}
    assert found["failed"] == 1


# Published for the seven scenes (Brachmann et al. 2021): averages of recall in percent at 5 cm 5 deg and
# 2 cm 2 deg, and means of the scenes' median errors in cm and degrees.
PUBLISHED = {"hloc": (95.7, 84.5, 1.27, 0.27), "dsac_rgb": (97.8, 80.7, 1.07, 0.34)}
HLOC_PER_SCENE = (100.0, 99.4, 100.0, 100.0, 100.0, 98.6, 72.0)  # percent at 5 cm 5 deg


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, list[Accuracy]]:
    folder = shared_data / "pgt_7scenes_estimates"
    truths = [read_poses(folder / f"pgt_{scene}_test.txt") for scene in SCENES]
    found: dict[str, list[Accuracy]] = {}
    for method in PUBLISHED:
        estimates = [read_poses(folder / f"estimate_{scene}_{method}.txt") for scene in SCENES]
        found[method] = [
            accuracy(
                [
                    pose_error(ours[name].cam_from_world if name in ours else None, record.cam_from_world)
                    for name, record in truth.items()
                ]
            )
            for ours, truth in zip(estimates, truths)
        ]
    return found


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_averages_are_reproduced(published: dict[str, list[Accuracy]], method: str) -> None:
    rows = [
        (
            100 * scene.recall["5cm_5deg"],
            100 * scene.recall["2cm_2deg"],
            100 * (scene.median_translation_m or INFINITY),
            scene.median_rotation_deg or INFINITY,
        )
        for scene in published[method]
    ]
    recall_5, recall_2, centimetres, degrees = np.mean(rows, axis=0)
    assert (round(recall_5, 1), round(recall_2, 1)) == PUBLISHED[method][:2]
    assert (round(centimetres, 2), round(degrees, 2)) == PUBLISHED[method][2:]


def test_published_figures_per_scene_are_reproduced(published: dict[str, list[Accuracy]]) -> None:
    found = tuple(round(100 * scene.recall["5cm_5deg"], 1) for scene in published["hloc"])
    assert found == pytest.approx(HLOC_PER_SCENE, abs=0.051)


def test_calibration_compares_stated_with_found_errors() -> None:
    """Ten queries that state 1 cm and are off by 2, ten that state 10 cm and are off by 5."""
    results = []
    for number in range(20):
        stated, found = (0.01, 0.02) if number % 2 else (0.1, 0.05)
        estimate = PoseEstimate(
            Status.OK, CAMERA, moved(TRUTH, found, 0.1), covariance=torch.eye(6).double() * stated**2 / 3
        )
        results.append(QueryResult(f"{number}", Localization({"initial": estimate}), TRUTH))
    failed = PoseEstimate(Status.NO_CONSENSUS, CAMERA)
    results.append(QueryResult("failed", Localization({"initial": failed}), TRUTH))
    first, second = calibration(results, bins=2)
    assert (first.count, second.count) == (10, 10)
    assert (first.predicted_translation_m, second.predicted_translation_m) == pytest.approx((0.01, 0.1))
    assert second.actual_translation_m / first.actual_translation_m == pytest.approx(2.5)


def test_nothing_localized_has_no_calibration() -> None:
    assert calibration([]) == []


def test_a_higher_threshold_trades_recall_for_false_poses() -> None:
    errors = [PoseError(0.01, 1, 0), PoseError(0.05, 1, 0), PoseError(0.5, 1, 0), FAILED]
    curve = threshold_curve(errors, [0.8, 0.3, 0.5, float("-inf")])
    assert curve.thresholds == [0.3, 0.5, 0.8]
    assert curve.recall == [0.5, 0.25, 0.25] and curve.false == [0.25, 0.25, 0.0]
