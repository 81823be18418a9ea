"""The second, guided look for landmarks, on a world whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from localization.features import Keypoints
from localization.guided import guided_pairs, match_near, pairs_within, refine, visible
from localization.pipeline import Localizer, LocalizerOptions
from localization.pnp import estimate_pose
from localization.result import Matches, PoseEstimate, pose_errors
from tests.localization.world import CAMERA, TRUTH, FakeExtractor, World, make_world
from utils import se3

SEEN = 200  # of the world's landmarks; the rest are anywhere


def estimate_at(pose: torch.Tensor, world: World) -> PoseEstimate:
    return replace(estimate_pose(world.pixels, world.points, CAMERA), cam_from_world=pose)


def nudged(meters: float) -> torch.Tensor:
    xi = torch.tensor([meters, 0.0, 0.0, 0.0, 0.002, 0.0], dtype=torch.float64)
    return se3.se3_exp(xi) @ TRUTH


@pytest.mark.parametrize("radius", [3.0, 25.0, 1000.0])
def test_pairs_within_are_those_of_the_distance_matrix(radius: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(count, 2, generator=generator) * 600 - 50 for count in (80, 120))
    expected = set(map(tuple, (torch.cdist(a, b) < radius).nonzero().tolist()))
    index_a, index_b = pairs_within(a, b, radius)
    assert set(zip(index_a.tolist(), index_b.tolist())) == expected
    assert len(index_a) == len(expected)


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (0, 0)])
def test_no_points_have_no_pairs(rows: int, columns: int) -> None:
    assert len(pairs_within(torch.zeros(rows, 2), torch.zeros(columns, 2), 5.0)[0]) == 0


def test_landmarks_of_the_image_are_visible(world: World) -> None:
    assert set(range(SEEN)) <= set(visible(world.landmarks, TRUTH, CAMERA, 0.0).tolist())


def test_landmarks_are_not_visible_from_behind(world: World) -> None:
    landmarks = replace(world.landmarks, directions=-world.landmarks.directions)
    assert len(visible(landmarks, TRUTH, CAMERA, 0.0)) == 0


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_landmarks_are_not_visible_from_much_nearer_or_farther_than_ever(world: World, factor: float) -> None:
    landmarks = replace(world.landmarks, distances=world.landmarks.distances * factor)
    assert len(visible(landmarks, TRUTH, CAMERA, 0.0)) == 0


def test_a_better_match_outside_the_radius_is_ignored(world: World) -> None:
    """A twin of the right keypoint, more similar but elsewhere, wins globally and not here."""
    landmarks = world.landmarks.select(slice(0, 1))
    noisy = torch.nn.functional.normalize(landmarks.descriptors + 0.02, dim=1)
    keypoints = Keypoints(
        torch.tensor([[300.0, 200.0], [50.0, 50.0]]),
        torch.cat([noisy, landmarks.descriptors]),
        torch.ones(2),
    )
    pairs = match_near(keypoints, landmarks, torch.tensor([[303.0, 200.0]]), 10.0, 0.5)
    assert pairs.index_a.tolist() == [0]


def test_guided_pairs_are_the_true_ones_of_all_keypoints(world: World) -> None:
    pairs = guided_pairs(
        estimate_at(nudged(0.01), world), world.features.keypoints, world.landmarks, 16.0, 0.7
    )
    assert torch.equal(pairs.index_a, pairs.index_b)
    assert len(pairs) == pytest.approx(160, abs=5)  # the outliers are elsewhere


def test_refinement_returns_to_the_truth(world: World) -> None:
    matches = Matches(world.pixels, world.points, np.zeros(SEEN, bool))
    found = refine(estimate_at(nudged(0.02), world), matches, 8.0)
    translation, rotation = pose_errors(found.pose(), TRUTH)
    assert translation < 0.005
    assert rotation < 0.05
    assert found.inliers == pytest.approx(160, abs=5)


def test_more_noise_is_a_larger_covariance() -> None:
    stated = []
    for noise in (0.5, 2.0):
        world = make_world(noise_px=noise, outliers=0)
        matches = Matches(world.pixels, world.points, np.zeros(SEEN, bool))
        found = refine(estimate_at(TRUTH, world), matches, 8.0)
        assert found.expected_translation_m is not None
        stated.append(found.expected_translation_m)
    assert stated[1] / stated[0] == pytest.approx(4.0, rel=0.3)


def test_the_second_look_adds_keypoints_that_the_first_left_out(world: World) -> None:
    options = LocalizerOptions(first_k=100)
    localizer = Localizer(world.landmarks, FakeExtractor(world.features), options=options)
    estimate = localizer.prior(world.features, CAMERA)
    assert estimate.inliers == pytest.approx(160, abs=5)
    assert pose_errors(estimate.pose(), TRUTH)[0] < 0.01
