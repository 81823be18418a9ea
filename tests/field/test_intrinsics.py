"""Intrinsics that are wrong, as of images that were resized or cropped since: said after triangulation."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gsplatloc.mapping.camera_check import better_camera
from gsplatloc.mapping.matched_pairs import matched_pairs
from gsplatloc.mapping.pose_check import contradiction
from gsplatloc.mapping.triangulation import triangulate
from gsplatloc.scene.cameras import Camera
from tests.field.test_pose_conventions import FOLDERS, scene_of

WRONG: dict[str, Callable[[Camera], Camera]] = {
    "the focal length times 0.9": lambda c: replace(c, fx=1.1 * c.fx, fy=1.1 * c.fy),
    "the focal length times 1.25": lambda c: replace(c, fx=0.8 * c.fx, fy=0.8 * c.fy),
    "fy times 0.8": lambda c: replace(c, fy=1.25 * c.fy),
    "cx moved by -10% of the width": lambda c: replace(c, cx=c.cx + 0.1 * c.width),
    "cy moved by 10% of the height": lambda c: replace(c, cy=c.cy - 0.1 * c.height),
}


@pytest.mark.parametrize("expected", WRONG)
def test_intrinsics_that_fit_better_are_named(expected: str) -> None:
    scene, keypoints = scene_of(FOLDERS)
    views = [replace(view, camera=WRONG[expected](view.camera)) for view in scene.train]
    found = better_camera(matched_pairs(views, keypoints, 40))
    assert found is not None and f"found that with {expected} they are" in found


def test_right_intrinsics_are_not_mentioned() -> None:
    scene, keypoints = scene_of(FOLDERS)
    assert better_camera(matched_pairs(scene.train, keypoints, 40)) is None


def test_wrong_intrinsics_are_part_of_the_check_of_a_scene() -> None:
    scene, keypoints = scene_of(FOLDERS)
    views = [
        replace(v, camera=replace(v.camera, fx=0.8 * v.camera.fx, fy=0.8 * v.camera.fy)) for v in scene.train
    ]
    found = contradiction(replace(scene, train=views), keypoints, triangulate(views, keypoints))
    assert found is not None and "the focal length times 1.25" in found.text
