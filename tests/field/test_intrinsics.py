"""Intrinsics that are wrong, as of images that were resized or cropped since: said after triangulation."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping.camera_check import better_camera
from gsplatloc.mapping.matched_pairs import matched_pairs
from gsplatloc.mapping.pose_check import contradiction
from gsplatloc.mapping.triangulation import triangulate
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils import se3
from tests.field.test_pose_conventions import FOLDERS, scene_of
from tests.mapping.test_triangulation import cloud, detect, look

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


@pytest.mark.parametrize("degrees", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_slightly_wrong_rotations_along_a_path_are_no_wrong_focal_length(degrees: float, seed: int) -> None:
    """Their distances from epipolar lines are proportional to the focal length."""
    views, keypoints = translating(degrees, seed)
    assert better_camera(matched_pairs(views, keypoints, 40)) is None


@pytest.mark.parametrize(("factor", "named"), [(0.8, "1.25"), (1.11, "0.9"), (1.25, "0.8")])
def test_a_wrong_focal_length_is_named_with_slightly_wrong_rotations(factor: float, named: str) -> None:
    scene, keypoints = scene_of(FOLDERS)
    views = [
        replace(v, camera=replace(v.camera, fx=factor * v.camera.fx, fy=factor * v.camera.fy))
        for v in turned(scene.train, 0.05, 0)
    ]
    found = better_camera(matched_pairs(views, keypoints, 40))
    assert found is not None and f"the focal length times {named} they are" in found


def turned(views: Sequence[View], degrees: float, seed: int) -> list[View]:
    """The views with rotations that are wrong by about so much."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.zeros(len(views), 6, dtype=torch.float64)
    noise[:, 3:] = torch.randn(len(views), 3, generator=generator, dtype=torch.float64)
    wrong = se3.se3_exp(noise * np.radians(degrees) / 3**0.5)
    return [view.with_pose(error @ view.cam_from_world) for view, error in zip(views, wrong)]


def translating(degrees: float, seed: int) -> tuple[list[View], list[Keypoints]]:
    """Cameras side by side that look in one direction, and what they see of points before them."""
    views, points = [look(0.25 * index - 1, 0.0, f"view{index}") for index in range(9)], cloud()
    keypoints = [detect(view, points, 0.3, seed=index) for index, view in enumerate(views)]
    return turned(views, degrees, seed), keypoints


def test_wrong_intrinsics_are_part_of_the_check_of_a_scene() -> None:
    scene, keypoints = scene_of(FOLDERS)
    views = [
        replace(v, camera=replace(v.camera, fx=0.8 * v.camera.fx, fy=0.8 * v.camera.fy)) for v in scene.train
    ]
    found = contradiction(replace(scene, train=views), keypoints, triangulate(views, keypoints))
    assert found is not None and "the focal length times 1.25" in found.text
