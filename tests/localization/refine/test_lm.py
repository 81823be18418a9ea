"""`lm` recovers a known pose in a few steps, and rejects what the image or the prior contradicts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.alignment.levenberg_marquardt import levenberg_marquardt
from gsplatloc.localization.refine import lm
from gsplatloc.localization.refine.lm import LmRefiner
from gsplatloc.localization.refine.members import LmOptions
from tests.localization.refine.test_direct_alignment import PERTURBATIONS
from tests.localization.world import pose_errors

FULL = LmOptions(scale=1.0)  # the room's photos are small already


def test_descriptors_may_be_compared_as_well(room: Any) -> None:
    options = replace(FULL, feature_weight=1.0)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[1]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.004


def test_ten_steps_suffice_near_the_pose(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def counted(*arguments: Any) -> Any:
        state = levenberg_marquardt(*arguments)
        steps.append(state.iterations)
        return state

    monkeypatch.setattr(lm, "levenberg_marquardt", counted)
    near = replace(
        room.initial([0.005, 0, 0, 0, 0.003, 0]), covariance=1e-5 * torch.eye(6, dtype=torch.float64)
    )
    estimate = LmRefiner(FULL).refine(room.query, room.splat_map, near)
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.002
    assert sum(steps) <= 10


def test_a_pose_that_the_estimate_does_not_allow_is_rejected(room: Any) -> None:
    """The estimate claims to be certain but weighs nothing in the cost: the photo, taken elsewhere, wins."""
    initial = replace(
        room.initial([0.03, 0, 0, 0, 0, 0]), covariance=1e-6 * torch.eye(6, dtype=torch.float64)
    )
    options = replace(FULL, prior_weight=0.0)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())


def test_a_photo_of_another_place_is_rejected(room: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, room.query.image.shape, dtype=np.uint8)
    query = replace(room.query, image=noise)
    assert not LmRefiner(FULL).refine(query, room.splat_map, room.initial(PERTURBATIONS[0])).accepted


def test_a_covariance_in_single_precision_is_understood(room: Any) -> None:
    initial = replace(room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6))
    assert LmRefiner(FULL).refine(room.query, room.splat_map, initial).accepted


def test_without_patches_pixels_decide(room: Any) -> None:
    options = replace(FULL, patches=False)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.003
