"""Matching against the rendered map recovers a known pose, and refuses without evidence."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.refine.fine import FineOptions, FineRefiner, solve
from gsplatloc.localization.result import Matches, PoseEstimate, Status, pose_errors
from gsplatloc.scene.splat_map import SplatMap

PERTURBATIONS = (
    [0.02, -0.01, 0.02, 0.01, -0.01, 0.015],  # 3 cm, 1.2 degrees
    [0.05, 0.0, 0.0, 0.0, -0.02, 0.0],  # 5 cm, 1.1 degrees
    [0.0, 0.03, -0.04, -0.02, 0.02, 0.02],  # 5 cm, 2 degrees
)


def _with_matches(room: Any, initial: PoseEstimate, wrong: int = 0) -> PoseEstimate:
    """`prior` with 60 exact matches and `wrong` ones that claim its own pose, all said to be inliers."""
    generator = torch.Generator().manual_seed(2)
    unit = torch.rand(60 + wrong, 2, generator=generator, dtype=torch.float64)
    pixels = unit * torch.tensor([320.0, 240.0])
    depth = 2 + torch.rand(60 + wrong, generator=generator, dtype=torch.float64)
    poses = torch.stack([room.truth] * 60 + [initial.pose()] * wrong)
    local = initial.camera.unproject(pixels, depth)
    points = ((local - poses[:, :3, 3])[:, None] @ poses[:, :3, :3])[:, 0]
    inliers = np.ones(60 + wrong, bool)
    return replace(initial, matches=Matches(pixels.numpy(), points.numpy(), inliers), inliers=60 + wrong)


@pytest.mark.parametrize("xi", PERTURBATIONS)
def test_two_rounds_recover_a_known_pose(room: Any, xi: list[float]) -> None:
    estimate = FineRefiner(FineOptions(rounds=2)).refine(room.query, room.splat_map, room.initial(xi))
    translation_m, rotation_deg = pose_errors(estimate.cam_from_world, room.truth)
    assert estimate.accepted
    assert translation_m < 0.001
    assert rotation_deg < 0.02


def test_the_feature_map_recovers_a_known_pose_to_a_fraction_of_a_cell(room: Any) -> None:
    options = FineOptions(match="map", rounds=2)
    estimate = FineRefiner(options).refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert pose_errors(estimate.cam_from_world, room.truth)[0] < 0.015


def test_the_covariance_covers_the_error(room: Any) -> None:
    estimate = FineRefiner().refine(room.query, room.splat_map, room.initial(PERTURBATIONS[0]))
    assert estimate.covariance is not None
    deviation_m = estimate.covariance.diagonal()[:3].sum().sqrt().item()
    assert 1e-4 < deviation_m < 0.01


def test_matches_of_the_prior_are_kept_and_joined(room: Any) -> None:
    initial = _with_matches(room, room.initial([0.01, 0, 0, 0, 0, 0]))
    estimate = FineRefiner().refine(room.query, room.splat_map, initial)
    assert estimate.matches is not None and initial.matches is not None
    assert len(estimate.matches) > len(initial.matches)
    np.testing.assert_array_equal(estimate.matches.pixels[:60], initial.matches.pixels)
    assert estimate.inliers == estimate.matches.inliers.sum()


def test_a_pose_that_the_matches_of_the_prior_deny_is_rejected(room: Any) -> None:
    initial = _with_matches(room, room.initial([0.15, 0, 0, 0, 0, 0]), wrong=600)
    estimate = FineRefiner().refine(room.query, room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())


def test_a_photo_of_something_else_is_rejected(room: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, room.query.image.shape, np.uint8)
    initial = room.initial(PERTURBATIONS[0])
    estimate = FineRefiner().refine(replace(room.query, image=noise), room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())
    assert estimate.elapsed_ms > 0


def test_an_empty_map_is_rejected(room: Any) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    assert (
        not FineRefiner()
        .refine(room.query, SplatMap(gaussians=nothing), room.initial(PERTURBATIONS[0]))
        .accepted
    )


def test_a_failed_prior_is_returned_as_it_is(room: Any) -> None:
    failed = PoseEstimate(Status.NO_CONSENSUS, room.query.camera)
    estimate = FineRefiner().refine(room.query, room.splat_map, failed)
    assert estimate.status is Status.NO_CONSENSUS
    assert not estimate.accepted


def test_many_biased_matches_do_not_outvote_the_prior(room: Any) -> None:
    """Rendered matches share the map's errors: their worth is capped, however many there are."""
    initial = _with_matches(room, room.initial([0, 0, 0, 0, 0, 0]))
    pixels = torch.rand(1500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 200 + 20
    local = initial.camera.unproject(pixels, torch.full((1500,), 2.5).double()) + torch.tensor([0.01, 0, 0])
    points = (local - room.truth[:3, 3]) @ room.truth[:3, :3]  # the whole map is off by 1 cm

    def shift_m(effective: float) -> float:
        estimate = solve(initial, initial.pose(), pixels, points, FineOptions(effective=effective))
        assert estimate is not None
        return pose_errors(estimate.pose(), room.truth)[0]

    assert shift_m(10) < 0.5 * shift_m(1500)
