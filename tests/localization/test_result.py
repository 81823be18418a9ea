"""Estimates and their errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH, pose_errors

ESTIMATE = PoseEstimate(Status.OK, CAMERA, TRUTH)


def test_expected_errors_are_those_of_the_covariance() -> None:
    """Draws of xi with the covariance: their root mean square errors are the expected ones."""
    deviations = torch.tensor([0.01, 0.02, 0.005, 0.002, 0.004, 0.001], dtype=torch.float64)
    estimate = replace(ESTIMATE, covariance=torch.diag(deviations**2))
    draws = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = torch.tensor([pose_errors(pose, TRUTH) for pose in se3.se3_exp(draws * deviations) @ TRUTH])
    translation_m, rotation_deg = errors.square().mean(0).sqrt().tolist()
    assert estimate.expected_translation_m == pytest.approx(translation_m, rel=0.05)
    assert estimate.expected_rotation_deg == pytest.approx(rotation_deg, rel=0.05)


def test_without_a_covariance_no_errors_are_expected() -> None:
    assert ESTIMATE.expected_translation_m is None and ESTIMATE.expected_rotation_deg is None


def test_a_resized_estimate_has_the_camera_and_the_matches_of_the_other_size() -> None:
    matches = Matches(np.array([[320.0, 120.0]]), np.zeros((1, 3)), np.ones(1, bool))
    resized = replace(ESTIMATE, matches=matches).resized(2 * CAMERA.width, CAMERA.height)
    assert resized.camera == CAMERA.resized(2 * CAMERA.width, CAMERA.height)
    assert resized.matches is not None
    assert resized.matches.pixels.tolist() == [[640.0, 120.0]]
    assert ESTIMATE.resized(CAMERA.width, CAMERA.height) is ESTIMATE


def test_the_pose_of_a_failed_estimate_is_a_bug() -> None:
    with pytest.raises(ValueError, match="found status no_consensus"):
        PoseEstimate(Status.NO_CONSENSUS, CAMERA).pose()


def test_the_final_estimate_is_that_of_the_last_stage() -> None:
    last = replace(ESTIMATE, elapsed_ms=2.0)
    localization = Localization({"initial": replace(ESTIMATE, elapsed_ms=1.0), "lm": last}, features_ms=4.0)
    assert localization.final is last
    assert localization.total_ms == 7.0


def test_center_and_quaternion_are_those_of_the_pose() -> None:
    assert ESTIMATE.center is not None and ESTIMATE.quaternion is not None
    rebuilt = se3.rotation_from_quaternion(ESTIMATE.quaternion)
    assert torch.allclose(rebuilt, TRUTH[:3, :3], atol=1e-12)
    assert torch.allclose(TRUTH[:3, :3] @ ESTIMATE.center + TRUTH[:3, 3], torch.zeros(3).double(), atol=1e-12)
    failed = PoseEstimate(Status.NO_CONSENSUS, CAMERA)
    assert failed.center is None and failed.quaternion is None


def test_what_is_printed_of_results_is_short_and_has_the_figures() -> None:
    matches = Matches(np.zeros((2000, 2)), np.zeros((2000, 3)), np.ones(2000, bool))
    covariance = torch.eye(6, dtype=torch.float64) * 1e-4
    estimate = replace(ESTIMATE, matches=matches, covariance=covariance, inliers=2000)
    printed = repr(Localization({"initial": estimate, "lm": estimate}, score=0.7))
    assert len(printed) < 300 and "\n" not in printed
    assert all(part in printed for part in ("ok", "score 0.70", "initial, lm", "2000 inliers", "0.0173 m"))
    assert repr(PoseEstimate(Status.NO_CONSENSUS, CAMERA)) == "PoseEstimate(no_consensus, 0 inliers)"


def test_every_status_without_a_verified_pose_comes_with_advice() -> None:
    for status in set(Status) - {Status.OK, Status.UNVERIFIED}:
        assert Localization({"initial": PoseEstimate(status, CAMERA)}).advice
    assert not Localization({"initial": ESTIMATE}).advice


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_failure_says_why_and_what_to_do(status: Status) -> None:
    found = Localization({"initial": PoseEstimate(status, CAMERA)})
    why, _, help = found.advice.partition(": ")
    assert why and help


def test_a_verified_pose_needs_no_advice() -> None:
    assert Localization({"initial": ESTIMATE}).advice == ""
    assert "does not look like the map" in Localization({"initial": ESTIMATE}, verified=False).advice
