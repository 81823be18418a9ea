"""Registering depth to colour."""

import numpy as np

from gsplatloc.datasets.depth import reproject_depth
from gsplatloc.datasets.seven_scenes import COLOR_FROM_DEPTH


def test_the_same_camera_sees_the_same_depth() -> None:
    depth = np.random.default_rng(0).uniform(1, 3, (24, 32)).astype(np.float32)
    depth[3, 4] = 0
    np.testing.assert_allclose(reproject_depth(depth, np.eye(4), 30.0, 30.0), depth, rtol=1e-6)


def test_the_nearest_surface_wins() -> None:
    depth = np.full((9, 9), 4.0, np.float32)
    depth[4, 4] = 2.0
    # half the focal length: a 2x2 block lands on one pixel
    assert reproject_depth(depth, np.eye(4), 20.0, 10.0).max() == 4.0
    assert reproject_depth(depth, np.eye(4), 20.0, 10.0)[4, 4] == 2.0


def test_a_step_aside_moves_points_by_their_parallax() -> None:
    depth = np.zeros((20, 40), np.float32)
    depth[10, 20] = 2.0
    moved = np.eye(4)
    moved[0, 3] = 0.2  # metres to the right, as seen from the target: 30 px * 0.2 / 2 = 3 px
    result = reproject_depth(depth, moved, 30.0, 30.0)
    assert np.argwhere(result).tolist() == [[10, 23]]


def test_what_falls_behind_or_outside_is_dropped() -> None:
    depth = np.full((8, 8), 1.0, np.float32)
    behind = np.eye(4)
    behind[2, 3] = -2.0
    assert not reproject_depth(depth, behind, 8.0, 8.0).any()
    aside = np.eye(4)
    aside[0, 3] = 100.0
    assert not reproject_depth(depth, aside, 8.0, 8.0).any()


def test_a_wall_seen_by_kinects_depth_camera_stays_a_wall_for_its_colour_camera() -> None:
    wall = np.full((480, 640), 2.0, np.float32)
    seen = reproject_depth(wall, COLOR_FROM_DEPTH, 585.0, 525.0)
    inner = seen[60:-60, 60:-60]
    assert (inner > 0).mean() > 0.99
    # turned by about half a degree: at most 1 cm over the width seen, and the offset along z
    assert np.abs(inner[inner > 0] - 2.002).max() < 0.02
