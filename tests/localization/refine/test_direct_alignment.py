"""`lm` and `warp` recover a known pose, and their result describes the pose that they return."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.refine import Refiner
from gsplatloc.localization.refine.lm import LmRefiner
from gsplatloc.localization.refine.members import LmOptions, WarpOptions
from gsplatloc.localization.refine.warp import WarpRefiner
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from tests.localization.world import pose_errors

PERTURBATIONS = (
    [0.02, -0.01, 0.02, 0.01, -0.01, 0.015],  # 3 cm, 1.2 degrees
    [0.05, 0.0, 0.0, 0.0, -0.02, 0.0],  # 5 cm, 1.1 degrees
    [0.0, 0.03, -0.04, -0.02, 0.02, 0.02],  # 5 cm, 2 degrees
)
# At full scale: the room's photos are small already.
REFINERS = [LmRefiner(LmOptions(scale=1.0)), WarpRefiner(WarpOptions(scale=1.0))]
every_refiner = pytest.mark.parametrize("refiner", REFINERS, ids=lambda refiner: refiner.name)


@every_refiner
@pytest.mark.parametrize("xi", PERTURBATIONS)
def test_a_known_pose_is_recovered(room: Any, refiner: Refiner, xi: list[float]) -> None:
    estimate = refiner.refine(room.query, room.splat_map, room.initial(xi))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.002
    assert rotation_deg < 0.03


@pytest.mark.parametrize("refiner, metres", zip(REFINERS, (0.003, 0.002)), ids=("lm", "warp"))
def test_another_exposure_is_solved_for(room: Any, refiner: Refiner, metres: float) -> None:
    image = (room.query.image.astype(np.float64) * 0.7 + 20).round().astype(np.uint8)
    query = replace(room.query, image=image)
    estimate = refiner.refine(query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < metres


@every_refiner
def test_an_object_that_the_map_does_not_know_is_ignored(room: Any, refiner: Refiner) -> None:
    image = room.query.image.copy()
    image[60:140, 40:140] = (250, 30, 30)
    query = replace(room.query, image=image)
    estimate = refiner.refine(query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.004


@every_refiner
def test_a_certain_prior_is_hardly_moved(room: Any, refiner: Refiner) -> None:
    initial = room.initial([0.01, 0, 0, 0, 0, 0])
    free = refiner.refine(room.query, room.splat_map, initial)
    certain = replace(initial, covariance=1e-10 * torch.eye(6, dtype=torch.float64))
    held = refiner.refine(room.query, room.splat_map, certain)
    assert pose_errors(free.pose(), initial.pose())[0] > 0.008
    assert pose_errors(held.pose(), initial.pose())[0] < 0.001


@every_refiner
def test_an_empty_map_is_rejected(room: Any, refiner: Refiner) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    initial = room.initial(PERTURBATIONS[0])
    estimate = refiner.refine(room.query, SplatMap(gaussians=nothing), initial)
    assert not estimate.accepted
    assert estimate.elapsed_ms > 0


@every_refiner
def test_a_failed_prior_is_returned_as_it_is(room: Any, refiner: Refiner) -> None:
    failed = PoseEstimate(Status.TOO_FEW_MATCHES, room.query.camera)
    estimate = refiner.refine(room.query, room.splat_map, failed)
    assert estimate.status is Status.TOO_FEW_MATCHES
    assert not estimate.accepted


@every_refiner
def test_the_covariance_shrinks_with_what_the_photo_says(room: Any, refiner: Refiner) -> None:
    initial = replace(
        room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6, dtype=torch.float64)
    )
    estimate = refiner.refine(room.query, room.splat_map, initial)
    assert estimate.covariance is not None
    assert bool((estimate.covariance.diagonal() < 1e-4).all())
