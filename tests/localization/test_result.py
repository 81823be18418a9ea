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


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_failure_says_why_and_what_to_do(status: Status) -> None:
    found = Localization({"initial": PoseEstimate(status, CAMERA)})
    why, _, help = found.advice.partition(": ")
    assert why and help


def test_a_verified_pose_needs_no_advice() -> None:
    assert Localization({"initial": ESTIMATE}).advice == ""
    assert "does not look like the map" in Localization({"initial": ESTIMATE}, verified=False).advice
