"""`warp` recovers a known pose, and its result describes the pose that it returns."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.queries import Query
from gsplatloc.localization.refine.members import WarpOptions
from gsplatloc.localization.refine.warp import WarpRefiner
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import pose_errors

PERTURBATIONS = (
    [0.02, -0.01, 0.02, 0.01, -0.01, 0.015],  # 3 cm, 1.2 degrees
    [0.05, 0.0, 0.0, 0.0, -0.02, 0.0],  # 5 cm, 1.1 degrees
    [0.0, 0.03, -0.04, -0.02, 0.02, 0.02],  # 5 cm, 2 degrees
)
FULL = WarpOptions(scale=1.0)  # the room's photos are small already


@pytest.mark.parametrize("xi", PERTURBATIONS)
def test_a_known_pose_is_recovered(room: Any, xi: list[float]) -> None:
    estimate = WarpRefiner(FULL).refine(room.query, room.splat_map, room.initial(xi))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.002
    assert rotation_deg < 0.03


def test_colour_alone_recovers_a_known_pose(room: Any) -> None:
    options = replace(FULL, feature_weight=0.0)
    estimate = WarpRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.002


def _exposed(query: Query) -> Query:
    image = (query.image.astype(np.float64) * 0.7 + 20).round().astype(np.uint8)
    return replace(query, image=image)


def test_another_exposure_is_solved_for(room: Any) -> None:
    estimate = WarpRefiner(FULL).refine(_exposed(room.query), room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.002


def test_an_object_that_the_map_does_not_know_is_ignored(room: Any) -> None:
    image = room.query.image.copy()
    image[60:140, 40:140] = (250, 30, 30)
    query = replace(room.query, image=image)
    estimate = WarpRefiner(FULL).refine(query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.004


def test_a_certain_prior_is_hardly_moved(room: Any) -> None:
    initial = room.initial([0.01, 0, 0, 0, 0, 0])
    free = WarpRefiner(FULL).refine(room.query, room.splat_map, initial)
    certain = replace(initial, covariance=1e-10 * torch.eye(6, dtype=torch.float64))
    held = WarpRefiner(FULL).refine(room.query, room.splat_map, certain)
    assert pose_errors(free.pose(), initial.pose())[0] > 0.008
    assert pose_errors(held.pose(), initial.pose())[0] < 0.001


def test_a_pose_that_the_matches_of_the_prior_deny_is_rejected(room: Any) -> None:
    """The matches say that the prior is exact; the photo, taken elsewhere, says that it is not."""
    initial = room.initial([0.03, 0, 0, 0, 0, 0])
    pixels = torch.rand(100, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 200
    local = initial.camera.unproject(pixels, torch.full((100,), 2.5, dtype=torch.float64))
    points = (local - initial.pose()[:3, 3]) @ initial.pose()[:3, :3]
    initial = replace(initial, matches=Matches(pixels.numpy(), points.numpy(), np.ones(100, bool)))
    estimate = WarpRefiner(FULL).refine(room.query, room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())


def test_no_steps_are_no_improvement(room: Any) -> None:
    options = replace(FULL, iterations=0)
    estimate = WarpRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert not estimate.accepted


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"lr": float("nan")}, {"iterations": -1}])
def test_impossible_steps_are_a_user_error(change: dict[str, Any]) -> None:
    with pytest.raises(GSplatLocError, match="--warp_lr"):
        WarpOptions(**change)


def test_an_empty_map_is_rejected(room: Any) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    initial = room.initial(PERTURBATIONS[0])
    estimate = WarpRefiner(FULL).refine(room.query, SplatMap(gaussians=nothing), initial)
    assert not estimate.accepted
    assert estimate.elapsed_ms > 0


def test_a_failed_prior_is_returned_as_it_is(room: Any) -> None:
    failed = PoseEstimate(Status.TOO_FEW_MATCHES, room.query.camera)
    estimate = WarpRefiner().refine(room.query, room.splat_map, failed)
    assert estimate.status is Status.TOO_FEW_MATCHES
    assert not estimate.accepted


def test_the_covariance_shrinks_with_what_the_photo_says(room: Any) -> None:
    initial = replace(
        room.initial([0.005, 0, 0, 0, 0, 0]), covariance=1e-4 * torch.eye(6, dtype=torch.float64)
    )
    estimate = WarpRefiner(FULL).refine(room.query, room.splat_map, initial)
    assert estimate.covariance is not None
    assert bool((estimate.covariance.diagonal() < 1e-4).all())
