"""`lm` recovers a known pose in a few steps, and its result describes the pose that it returns."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.alignment.levenberg_marquardt import levenberg_marquardt
from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine import lm
from gsplatloc.localization.refine.lm import LmRefiner
from gsplatloc.localization.refine.members import LmOptions
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from tests.localization.world import pose_errors

PERTURBATIONS = (
    [0.02, -0.01, 0.02, 0.01, -0.01, 0.015],  # 3 cm, 1.2 degrees
    [0.05, 0.0, 0.0, 0.0, -0.02, 0.0],  # 5 cm, 1.1 degrees
    [0.0, 0.03, -0.04, -0.02, 0.02, 0.02],  # 5 cm, 2 degrees
)
FULL = LmOptions(scale=1.0)  # the room's photos are small already


@pytest.mark.parametrize("xi", PERTURBATIONS)
def test_a_known_pose_is_recovered(room: Any, xi: list[float]) -> None:
    estimate = LmRefiner(FULL).refine(room.query, room.splat_map, room.initial(xi))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.002
    assert rotation_deg < 0.03


def test_descriptors_may_be_compared_as_well(room: Any) -> None:
    options = replace(FULL, feature_weight=1.0)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[1]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.004


def _exposed(query: Query) -> Query:
    image = (query.image.astype(np.float64) * 0.7 + 20).round().astype(np.uint8)
    return replace(query, image=image)


def test_another_exposure_changes_nothing(room: Any) -> None:
    estimate = LmRefiner(FULL).refine(_exposed(room.query), room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.003


def test_an_object_that_the_map_does_not_know_is_ignored(room: Any) -> None:
    image = room.query.image.copy()
    image[60:140, 40:140] = (250, 30, 30)
    query = replace(room.query, image=image)
    estimate = LmRefiner(FULL).refine(query, room.splat_map, room.initial(PERTURBATIONS[0]))
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


def test_a_certain_prior_is_hardly_moved(room: Any) -> None:
    initial = room.initial([0.01, 0, 0, 0, 0, 0])
    free = LmRefiner(FULL).refine(room.query, room.splat_map, initial)
    certain = replace(initial, covariance=1e-10 * torch.eye(6, dtype=torch.float64))
    held = LmRefiner(FULL).refine(room.query, room.splat_map, certain)
    assert pose_errors(free.pose(), initial.pose())[0] > 0.008
    assert pose_errors(held.pose(), initial.pose())[0] < 0.001


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


def test_an_empty_map_is_rejected(room: Any) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    estimate = LmRefiner(FULL).refine(room.query, SplatMap(gaussians=nothing), room.initial(PERTURBATIONS[0]))
    assert not estimate.accepted
    assert estimate.elapsed_ms > 0


def test_a_failed_prior_is_returned_as_it_is(room: Any) -> None:
    failed = PoseEstimate(Status.TOO_FEW_MATCHES, room.query.camera)
    estimate = LmRefiner().refine(room.query, room.splat_map, failed)
    assert estimate.status is Status.TOO_FEW_MATCHES
    assert not estimate.accepted


def test_the_covariance_shrinks_with_what_the_photo_says(room: Any) -> None:
    initial = replace(
        room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6, dtype=torch.float64)
    )
    estimate = LmRefiner(FULL).refine(room.query, room.splat_map, initial)
    assert estimate.covariance is not None
    assert bool((estimate.covariance.diagonal() < 1e-4).all())


def test_a_covariance_in_single_precision_is_understood(room: Any) -> None:
    initial = replace(room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6))
    assert LmRefiner(FULL).refine(room.query, room.splat_map, initial).accepted


def test_without_patches_pixels_decide(room: Any) -> None:
    options = replace(FULL, patches=False)
    estimate = LmRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.003
