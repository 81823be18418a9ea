"""The verification score tells right poses from wrong ones, whatever the exposure."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization.verification import (
    MIN_SCORE,
    block_correlations,
    verification_score,
)
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from tests.localization.rendered_room import Room, make_query


def test_the_true_pose_is_verified(room: Room) -> None:
    assert verification_score(room.query, room.splat_map, room.truth) > 0.9


def test_a_change_of_exposure_changes_little(room: Room) -> None:
    query = make_query(room.gaussians, room.truth, gain=0.6, bias=0.1)
    assert verification_score(query, room.splat_map, room.truth) > 0.8


@pytest.mark.parametrize("xi", [[0.4, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.3, 0]], ids=["shift", "turn"])
def test_a_pose_off_by_decimetres_or_many_degrees_is_not(room: Room, xi: list[float]) -> None:
    pose = se3.se3_exp(torch.tensor(xi, dtype=torch.float64)) @ room.truth
    assert verification_score(room.query, room.splat_map, pose) < MIN_SCORE


def test_a_foreign_object_over_a_third_of_the_image_does_not_decide(room: Room) -> None:
    image = room.query.image.copy()
    image[:, : image.shape[1] // 3] = np.random.default_rng(0).integers(0, 255, (1, 1, 3), np.uint8)
    query = replace(room.query, image=image)
    assert verification_score(query, room.splat_map, room.truth) > MIN_SCORE


def test_an_empty_map_verifies_nothing(room: Room) -> None:
    nothing = room.gaussians.select(torch.zeros(len(room.gaussians), dtype=torch.bool))
    assert verification_score(room.query, SplatMap(gaussians=nothing), room.truth) == 0.0


def test_blocks_are_compared_regardless_of_brightness_and_contrast() -> None:
    a = np.random.default_rng(1).normal(size=(60, 80))
    everywhere = np.ones_like(a, bool)
    assert block_correlations(a, 2 * a + 3, everywhere) == pytest.approx(1.0)
    assert block_correlations(a, -a, everywhere) == pytest.approx(-1.0)
    half = a.copy()
    half[:, :30] = 0.0  # three of eight columns of blocks
    found = block_correlations(a, half, everywhere).reshape(6, 8)
    assert found[:, :3] == pytest.approx(0.0) and found[:, 4:] == pytest.approx(1.0)
    assert np.isnan(block_correlations(a, a, ~everywhere)).all()


def test_blocks_show_a_difference_that_the_score_does_not() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 80))
    other, covered = a.copy(), np.ones_like(a, bool)
    other[:, :20] = rng.normal(size=(60, 20))  # a quarter of the image is of another place
    covered[:, 70:] = False
    correlations = block_correlations(a, other, covered).reshape(6, 8)
    assert np.median(correlations[:, :7]) == pytest.approx(1.0)
    assert (np.abs(correlations[:, :2]) < 0.5).all() and (correlations[:, 2:7] > 0.99).all()
    assert np.isnan(correlations[:, 7]).all()
