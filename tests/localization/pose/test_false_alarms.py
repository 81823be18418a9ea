"""Whether matches prove a pose, on matches that are known to be right or wrong."""

import math

import numpy as np
import pytest
import torch

from gsplatloc.localization.pose.false_alarms import (
    POSE_PARAMETERS,
    chance_anywhere,
    log10_expected,
    log10_false_alarms,
    log10_tail,
)
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.result import Matches, Status
from tests.localization.world import CAMERA, TRUTH, World

RADIUS_PX = 8.0


def judged(pixels: np.ndarray, points: np.ndarray, inliers: np.ndarray) -> float:
    matches = Matches(pixels, points, inliers)
    return log10_false_alarms(matches, TRUTH, CAMERA, RADIUS_PX, POSE_PARAMETERS)


def test_right_matches_are_no_accident(world: World) -> None:
    assert judged(world.pixels, world.points, np.arange(200) >= 40) < -100


def test_inliers_in_one_place_count_once(world: World) -> None:
    """160 inliers within a few pixels are one observation, repeated."""
    pixels = world.pixels.copy()
    pixels[40:] = 20.0 + np.linspace(0, 10, 160)[:, None]
    assert judged(pixels, world.points, np.arange(200) >= 40) > 0


def test_agreement_that_any_shuffle_has_is_no_evidence(world: World) -> None:
    """Seen from very far, all points are in one spot, and so are the keypoints that fit it."""
    far = TRUTH.clone()
    far[2, 3] += 5_000.0
    in_cam = torch.from_numpy(world.points) @ far[:3, :3].T + far[:3, 3]
    pixels = CAMERA.project(in_cam).numpy() + 40 * (np.arange(200)[:, None] % 2) * [1.0, 0.0]
    matches = Matches(pixels, world.points, np.arange(200) % 2 == 0)
    assert log10_false_alarms(matches, far, CAMERA, RADIUS_PX, POSE_PARAMETERS) > -3


def test_more_inliers_are_more_evidence() -> None:
    chance = chance_anywhere(CAMERA, RADIUS_PX)
    alarms = [log10_expected(500, agreeing, chance, POSE_PARAMETERS) for agreeing in (20, 30, 40)]
    assert alarms == sorted(alarms, reverse=True)


def test_fitted_parameters_are_no_evidence() -> None:
    assert log10_expected(50, POSE_PARAMETERS, 1e-3, POSE_PARAMETERS) == math.inf
    assert log10_expected(50, 12, 1e-3, 6) < log10_expected(50, 12, 1e-3, 7)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("focal_known", [True, False])
def test_poses_from_wrong_matches_are_rejected(seed: int, focal_known: bool) -> None:
    rng = np.random.default_rng([1, seed])
    pixels, points = rng.uniform(0, [640, 480], (400, 2)), rng.normal(size=(400, 3))
    assert estimate_pose(pixels, points, CAMERA, focal_known=focal_known).status is Status.NO_CONSENSUS


@pytest.mark.parametrize(("total", "agreeing", "chance"), [(20, 12, 0.25), (50, 20, 0.25), (9, 9, 0.5)])
def test_the_bound_of_a_tail_is_above_it_and_near(total: int, agreeing: int, chance: float) -> None:
    tail = sum(
        math.comb(total, k) * chance**k * (1 - chance) ** (total - k) for k in range(agreeing, total + 1)
    )
    bound = log10_tail(total, agreeing, chance)
    assert math.log10(tail) <= bound + 1e-12 and bound < math.log10(tail) + 1.2


def test_no_more_than_was_expected_proves_nothing() -> None:
    assert log10_tail(100, 25, 0.25) == log10_tail(0, 0, 0.25) == log10_tail(40, 2, 0.25) == 0.0
