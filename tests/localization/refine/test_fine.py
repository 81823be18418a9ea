"""Matching with the rendered map: accuracy, variants, weights; test_contract.py has what all refiners do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.localization.refine.fine import FineRefiner, solve
from gsplatloc.localization.refine.members import FineOptions
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import pose_errors

PERTURBATIONS = (
    [0.02, -0.01, 0.02, 0.01, -0.01, 0.015],  # 3 cm, 1.2 degrees
    [0.05, 0.0, 0.0, 0.0, -0.02, 0.0],  # 5 cm, 1.1 degrees
    [0.0, 0.03, -0.04, -0.02, 0.02, 0.02],  # 5 cm, 2 degrees
)


def _with_matches(room: Any, initial: PoseEstimate, wrong: int = 0) -> PoseEstimate:
    """`initial` with 60 exact matches and `wrong` ones that agree with its own pose, all called inliers."""
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


def test_a_map_without_descriptors_is_one_line(room: Any) -> None:
    bare = SplatMap(gaussians=replace(room.gaussians, features=torch.zeros(len(room.gaussians), 0)))
    with pytest.raises(GSplatLocError, match="expected descriptors in the map, found none"):
        FineRefiner(FineOptions(match="map")).refine(room.query, bare, room.initial(PERTURBATIONS[0]))


def test_keypoints_are_not_matched_without_an_extractor(room: Any) -> None:
    with pytest.raises(GSplatLocError, match="expected an extractor to match keypoints"):
        FineRefiner(FineOptions(match="keypoints")).refine(
            room.query, room.splat_map, room.initial([0.0] * 6)
        )


def test_matches_of_the_initial_pose_are_joined(room: Any) -> None:
    initial = _with_matches(room, room.initial([0.01, 0, 0, 0, 0, 0]))
    estimate = FineRefiner().refine(room.query, room.splat_map, initial)
    assert estimate.matches is not None and initial.matches is not None
    assert len(estimate.matches) > len(initial.matches)
    np.testing.assert_array_equal(estimate.matches.pixels[:60], initial.matches.pixels)
    assert estimate.inliers == estimate.matches.inliers.sum()


def test_a_pose_that_loses_the_initial_inliers_is_rejected(room: Any) -> None:
    initial = _with_matches(room, room.initial([0.15, 0, 0, 0, 0, 0]), wrong=600)
    estimate = FineRefiner().refine(room.query, room.splat_map, initial)
    assert not estimate.accepted
    assert torch.equal(estimate.pose(), initial.pose())


def test_many_biased_matches_have_a_limited_weight(room: Any) -> None:
    """Rendered matches share the map's errors: their effective sample size is limited."""
    initial = _with_matches(room, room.initial([0, 0, 0, 0, 0, 0]))
    pixels = torch.rand(1500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 200 + 20
    local = initial.camera.unproject(pixels, torch.full((1500,), 2.5).double()) + torch.tensor([0.01, 0, 0])
    points = (local - room.truth[:3, 3]) @ room.truth[:3, :3]  # the whole map is off by 1 cm

    def shift_m(sample_size: float) -> float:
        estimate = solve(initial, initial.pose(), pixels, points, FineOptions(sample_size=sample_size))
        assert estimate is not None
        return pose_errors(estimate.pose(), room.truth)[0]

    assert shift_m(10) < 0.5 * shift_m(1500)


def test_the_covariance_grows_with_the_correlation_of_the_errors(room: Any) -> None:
    """Same residuals: those shared by all matches of a square of the image move the pose further."""
    initial = replace(room.initial([0, 0, 0, 0, 0, 0]), cam_from_world=room.truth)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(900, 2, dtype=torch.float64, generator=generator) * torch.tensor([320.0, 240.0])
    depth = 2 + 2 * torch.rand(900, dtype=torch.float64, generator=generator)
    points = (initial.camera.unproject(pixels, depth) - room.truth[:3, 3]) @ room.truth[:3, :3]
    squares = (pixels / 40).long()
    stated = []
    for shared in (False, True):
        errors = torch.randn(8, 8, 900 if not shared else 1, 2, generator=generator, dtype=torch.float64)
        index = torch.zeros(900, dtype=torch.int64) if shared else torch.arange(900)
        noisy = pixels + errors[squares[:, 0], squares[:, 1], index]
        estimate = solve(initial, initial.pose(), noisy, points, FineOptions())
        assert estimate is not None and estimate.expected_translation_m is not None
        stated.append(estimate.expected_translation_m)
    assert stated[1] > 2 * stated[0]
