"""Numbers of an estimate are those of its own pose."""

from dataclasses import replace

import numpy as np
import torch

from gsplatloc.localization.pose.covariance import assumed_information
from gsplatloc.localization.pose.estimates import (
    independent_information,
    inlier_observations,
    keeps_inliers,
    moved,
    with_inliers,
)
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH, World

STATED = torch.diag(torch.tensor([1e-4] * 3 + [1e-5] * 3, dtype=torch.float64))
ESTIMATE = PoseEstimate(Status.OK, CAMERA, TRUTH)
FAR = se3.se3_exp(torch.tensor([0.3, 0, 0, 0, 0, 0], dtype=torch.float64)) @ TRUTH


def wrong(world: World) -> PoseEstimate:
    """An estimate 30 cm off, with the matches of the right pose, none of them an inlier."""
    matches = Matches(world.pixels, world.points, np.zeros(len(world.pixels), bool))
    return PoseEstimate(Status.OK, CAMERA, FAR, matches=matches, accepted=False)


def test_inliers_are_decided_by_the_pose(world: World) -> None:
    matches = wrong(world).matches
    assert matches is not None
    assert 158 <= with_inliers(matches, CAMERA, TRUTH).inliers.sum() <= 165  # 40 of 200 are outliers
    assert with_inliers(matches, CAMERA, FAR).inliers.sum() < 20


def test_a_moved_estimate_has_the_inliers_and_the_covariance_of_its_new_pose(world: World) -> None:
    initial = replace(wrong(world), covariance=STATED, information=assumed_information(STATED), inliers=3)
    found = moved(initial, TRUTH, 2 * STATED)
    assert found.accepted and torch.equal(found.pose(), TRUTH)
    assert found.matches is not None
    assert found.inliers == found.matches.inliers.sum() > 150
    assert found.covariance is not None and torch.equal(found.covariance, 2 * STATED)
    assert found.information is None


def test_an_estimate_without_matches_is_moved_without_inliers() -> None:
    found = moved(replace(ESTIMATE, inliers=7), FAR, None)
    assert found.inliers == 0 and found.matches is None and found.covariance is None


def test_a_pose_from_pnp_has_the_inliers_of_the_refined_pose(world: World) -> None:
    """Solvers select them before their last refinement."""
    for focal_known in (True, False):
        estimate = estimate_pose(world.pixels, world.points, CAMERA, focal_known=focal_known)
        assert estimate.matches is not None
        again = with_inliers(estimate.matches, estimate.camera, estimate.pose())
        np.testing.assert_array_equal(again.inliers, estimate.matches.inliers)


def test_nine_tenths_of_the_inliers_must_be_kept(world: World) -> None:
    initial = wrong(world)
    assert keeps_inliers(TRUTH, initial)  # of none
    assert initial.matches is not None
    right = replace(initial, matches=with_inliers(initial.matches, CAMERA, TRUTH))
    assert keeps_inliers(TRUTH, right) and not keeps_inliers(FAR, right)
    assert keeps_inliers(FAR, replace(right, matches=None))


def test_observations_are_those_of_the_inliers(world: World) -> None:
    matches = Matches(world.pixels, world.points, np.arange(200) >= 40)
    observations = inlier_observations(matches)
    assert len(observations) == 160
    np.testing.assert_array_equal(observations.pixels.numpy(), world.pixels[40:])


def test_no_covariance_is_no_information() -> None:
    assert not independent_information(ESTIMATE).any()
    assert not independent_information(replace(ESTIMATE, information=torch.eye(6).double())).any()


def test_stated_information_is_used() -> None:
    information = torch.eye(6, dtype=torch.float64)
    assert (
        independent_information(replace(ESTIMATE, covariance=STATED, information=information)) is information
    )


def test_information_of_an_estimate_with_a_covariance_only_is_assumed() -> None:
    expected = assumed_information(STATED)
    torch.testing.assert_close(independent_information(replace(ESTIMATE, covariance=STATED)), expected)
