"""Guided matching of landmarks, in a world with known ground truth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.gaussian_renderer import native
from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.initial import landmarks as initial_landmarks
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.initial.members import LandmarkMatchingOptions
from gsplatloc.localization.landmarks.guided import guided_pairs, match_near, refine, visible
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.result import Matches, PoseEstimate
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH, World, make_world, pose_errors

SEEN = 200  # of the world's landmarks; the rest are anywhere


def estimate_at(pose: torch.Tensor, world: World) -> PoseEstimate:
    return replace(estimate_pose(world.pixels, world.points, CAMERA), cam_from_world=pose)


def nudged(meters: float) -> torch.Tensor:
    xi = torch.tensor([meters, 0.0, 0.0, 0.0, 0.002, 0.0], dtype=torch.float64)
    return se3.se3_exp(xi) @ TRUTH


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
    pairs = match_near(keypoints, landmarks, torch.tensor([0]), torch.tensor([[303.0, 200.0]]), 10.0, 0.5)
    assert pairs.index_a.tolist() == [0]


@pytest.mark.parametrize("native_package", [True, False])
@pytest.mark.parametrize("min_similarity", [-1.0, 0.1])
def test_pairs_are_those_of_the_full_matrix(
    min_similarity: float, native_package: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutual maxima of the cosines of all pairs within the radius, written out."""
    if not native_package:
        monkeypatch.setattr(native, "matching", lambda: None)
    generator = torch.Generator().manual_seed(2)
    world = make_world(seed=3)
    projections = torch.rand(250, 2, generator=generator) * 300
    xy = torch.rand(200, 2, generator=generator) * 300
    keypoints, index = replace(world.features.keypoints, xy=xy), torch.arange(20, 270)
    similarity = keypoints.descriptors @ world.landmarks.descriptors[index].T
    allowed = (torch.cdist(xy, projections) < 40) & (similarity >= min_similarity)
    similarity = torch.where(allowed, similarity, -torch.inf)
    mutual = (similarity == similarity.amax(1, keepdim=True)) & (similarity == similarity.amax(0)) & allowed
    pairs = match_near(keypoints, world.landmarks, index, projections, 40.0, min_similarity)
    assert [pairs.index_a.tolist(), (pairs.index_b - 20).tolist()] == mutual.nonzero().T.tolist()
    torch.testing.assert_close(pairs.similarity, similarity[mutual])


def test_without_keypoints_nothing_matches(world: World) -> None:
    none, index = world.features.keypoints.select(slice(0, 0)), torch.arange(5)
    assert len(match_near(none, world.landmarks, index, torch.zeros(5, 2), 16.0, 0.7)) == 0
    keypoints, projections = world.features.keypoints, torch.zeros(0, 2)
    assert len(match_near(keypoints, world.landmarks, index[:0], projections, 16.0, 0.7)) == 0


def test_guided_pairs_are_the_true_ones_of_all_keypoints(world: World) -> None:
    pairs = guided_pairs(
        estimate_at(nudged(0.01), world), world.features.keypoints, world.landmarks, 16.0, 0.7
    )
    assert torch.equal(pairs.index_a, pairs.index_b)
    assert len(pairs) == pytest.approx(160, abs=5)  # the outliers are elsewhere


def test_landmarks_that_face_away_are_not_matched(world: World) -> None:
    directions = world.landmarks.directions.clone()
    directions[:100] *= -1
    landmarks = replace(world.landmarks, directions=directions)
    pairs = guided_pairs(estimate_at(TRUTH, world), world.features.keypoints, landmarks, 16.0, 0.7)
    assert len(pairs) == pytest.approx(100, abs=3)
    assert (pairs.index_b >= 100).all()


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


def test_guided_matching_adds_keypoints_that_the_first_left_out(world: World) -> None:
    options = LandmarkMatchingOptions(first_keypoints=100)
    (estimate,) = LandmarkPose(world.landmarks, options).hypotheses(world.query(CAMERA))
    assert estimate.inliers == pytest.approx(160, abs=5)
    assert pose_errors(estimate.pose(), TRUTH)[0] < 0.01


def test_passes_before_the_last_take_few_samples(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of their poses only those with which most matches agree are kept, and a few samples find these."""
    taken: list[int] = []

    def estimated(pixels: np.ndarray, points: np.ndarray, *rest: Any, **more: Any) -> PoseEstimate:
        taken.append(rest[1].max_iterations)
        return estimate_pose(pixels, points, *rest, **more)

    monkeypatch.setattr(initial_landmarks, "estimate_pose", estimated)
    anywhere = 400 * torch.rand(SEEN, 2, generator=torch.Generator().manual_seed(1))
    foreign = replace(world.features, keypoints=replace(world.features.keypoints, xy=anywhere))
    options = LandmarkMatchingOptions(first_keypoints=100)
    for features, passes in ((world.features, [1_000]), (foreign, [1_000, 20_000])):
        taken.clear()
        (estimate,) = LandmarkPose(world.landmarks, options).hypotheses(world.query(CAMERA, features))
        assert taken == passes and estimate.ok is (features is world.features)
