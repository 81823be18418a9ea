"""Estimates and their errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status, pose_errors
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH

ESTIMATE = PoseEstimate(Status.OK, CAMERA, TRUTH)


def test_errors_are_the_distance_of_camera_centres_and_the_angle_of_the_rotation() -> None:
    turned = se3.se3_exp(torch.tensor([0, 0, 0, 0, 0.01, 0], dtype=torch.float64)) @ TRUTH
    center = se3.camera_center(TRUTH) + torch.tensor([0.03, 0.0, 0.04], dtype=torch.float64)
    shifted = se3.from_rotation_translation(turned[:3, :3], -(turned[:3, :3] @ center))
    translation_m, rotation_deg = pose_errors(shifted, TRUTH)
    assert translation_m == pytest.approx(0.05)
    assert rotation_deg == pytest.approx(math.degrees(0.01))


def test_without_a_pose_errors_are_infinite() -> None:
    assert pose_errors(None, TRUTH) == (math.inf, math.inf)


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
