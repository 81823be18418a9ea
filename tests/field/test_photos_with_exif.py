"""Cropped, zoomed and rounded: the focal length in EXIF data, and the map's own camera, are only probable.

Poses stay right, and their stated errors hold, whether what is known of the camera is right or not.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.queries import EXIF_FOCAL_SIGMA, CameraPrior, centered_camera
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from tests.localization.world import CAMERA, TRUTH, make_world, pose_errors

FULL = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
SEEDS = range(6)


def seen(camera: Camera, seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and points of a room: two of five matches are wrong, the others are off by a pixel."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    pixels = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size
    depth = 1.5 + 2.5 * torch.rand(count, generator=generator, dtype=torch.float64)
    world_from_cam = se3.inverse(TRUTH)
    points = camera.unproject(pixels, depth) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    pixels += torch.randn(count, 2, generator=generator, dtype=torch.float64)
    wrong = 2 * count // 5
    pixels[:wrong] = torch.rand(wrong, 2, generator=generator, dtype=torch.float64) * size
    return pixels.numpy(), points.numpy()


def check(estimate: PoseEstimate, metres: float, degrees: float) -> None:
    """The pose is right, and its errors are no larger than a few times the stated ones."""
    assert estimate.ok
    translation, rotation = pose_errors(estimate.pose(), TRUTH)
    assert translation < metres and rotation < degrees
    assert estimate.expected_translation_m is not None and estimate.expected_rotation_deg is not None
    assert translation < 3 * estimate.expected_translation_m
    assert rotation < 3 * estimate.expected_rotation_deg


def zoomed(factor: float) -> Camera:
    return replace(FULL, fx=factor * FULL.fx, fy=factor * FULL.fy)


CROPS = {
    "centre": Camera(320, 240, 525.0, 525.0, 160.0, 120.0),
    "left half": replace(FULL, width=320),
    "right half": replace(FULL, width=320, cx=0.0),
    "left third": replace(FULL, width=213),
    "upper half": replace(FULL, height=240),
    "corner": replace(FULL, width=320, height=240),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [1.0, 1.05, 1.3, 1.6, 2.5])
@pytest.mark.parametrize("focal", [525.0, 540.0, None])
def test_zoom_with_the_focal_length_before_it(seed: int, factor: float, focal: float | None) -> None:
    known = centered_camera(640, 480, focal or 640.0)
    sigma = EXIF_FOCAL_SIGMA if focal else math.inf
    pixels, points = seen(zoomed(factor), seed)
    estimate = estimate_pose(pixels, points, known, focal_known=False, focal_sigma=sigma)
    check(estimate, 0.02, 0.4)
    assert estimate.camera.fx == pytest.approx(525 * factor, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_guided_matches_of_a_wrong_focal_length_are_found_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only matches near the projections are found, which support the focal length of these."""
    world = make_world(seed=seed)
    wrong = replace(CAMERA, fx=0.8 * CAMERA.fx, fy=0.8 * CAMERA.fy)
    first = estimate_pose(world.pixels, world.points, wrong)
    initial = LandmarkPose(world.landmarks)
    monkeypatch.setattr(initial, "_matched", lambda _: first)
    found = initial.hypotheses(replace(world.query(wrong), focal_known=False))[0]
    assert found.inliers > 150
    check(found, 0.02, 0.2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("sigma", [EXIF_FOCAL_SIGMA, math.inf])
def test_crops_have_another_principal_point(seed: int, crop: str, sigma: float) -> None:
    camera = CROPS[crop]
    known = centered_camera(camera.width, camera.height, 400.0)
    pixels, points = seen(camera, seed)
    estimate = estimate_pose(pixels, points, known, focal_known=False, focal_sigma=sigma)
    check(estimate, 0.04, 1.5)
    assert estimate.camera.cx == pytest.approx(camera.cx, abs=15)
    assert estimate.camera.cy == pytest.approx(camera.cy, abs=15)


ODD = {
    "strip": (Camera(556, 239, 525.0, 525.0, 282.0, 50.0), 60),
    "upper half": (replace(FULL, height=240), 40),
    "small": (Camera(300, 170, 525.0, 525.0, 230.0, 60.0), 100),
}


@pytest.mark.parametrize("crop", ODD)
def test_few_matches_in_an_image_of_an_odd_shape_state_that_it_may_be_cropped(crop: str) -> None:
    """They do not show where the principal point is; no camera makes images of this shape."""
    camera, count = ODD[crop]
    known = centered_camera(camera.width, camera.height, 525.0)
    for seed in (0, 1, 4):
        pixels, points = seen(camera, seed, count)
        estimate = estimate_pose(pixels, points, known, focal_known=False, focal_sigma=EXIF_FOCAL_SIGMA)
        assert estimate.ok and estimate.expected_translation_m is not None
        assert pose_errors(estimate.pose(), TRUTH)[0] < 2.2 * estimate.expected_translation_m


@pytest.mark.parametrize("seed", SEEDS)
def test_the_maps_own_camera_is_taken_as_it_is_only_where_it_is_right(seed: int) -> None:
    for camera in (FULL, zoomed(1.05), replace(FULL, cx=260.0)):
        pixels, points = seen(camera, seed)
        estimate = estimate_pose(pixels, points, FULL, focal_known=False, focal_sigma=0.0)
        check(estimate, 0.02, 1.0)
        assert (estimate.camera == FULL) == (camera == FULL)


@pytest.mark.parametrize("seed", SEEDS)
def test_where_matches_do_not_show_the_focal_length_the_stated_error_grows(seed: int) -> None:
    """Before a wall, a longer focal length is as good as a shorter distance."""
    known = centered_camera(640, 480, 540.0)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(200, 2, generator=generator, dtype=torch.float64) * torch.tensor([640.0, 480.0])
    points = FULL.unproject(pixels, torch.full((200,), 3.0, dtype=torch.float64)).numpy()
    noisy = (pixels + 0.5 * torch.randn(200, 2, generator=generator)).numpy()
    estimate = estimate_pose(noisy, points, known, focal_known=False, focal_sigma=EXIF_FOCAL_SIGMA)
    exact = estimate_pose(noisy, points, known)
    translation, _ = pose_errors(estimate.pose(), torch.eye(4, dtype=torch.float64))
    assert estimate.expected_translation_m is not None and exact.expected_translation_m is not None
    assert translation < 2 * estimate.expected_translation_m
    assert estimate.expected_translation_m > 2 * exact.expected_translation_m


class Views(SplatMap):
    """A map of which only the mapping views are known."""

    views = [PosedCamera(FULL, torch.eye(4, dtype=torch.float64))]

    def has_views(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("size", "known", "expected"),
    [
        ((640, 480), None, CameraPrior(FULL, 0.0)),
        ((1280, 960), None, CameraPrior(FULL.resized(1280, 960), 0.0)),
        ((640, 480), 540.0, CameraPrior(FULL, 0.0)),
        ((640, 480), 800.0, CameraPrior(centered_camera(640, 480, 800.0), EXIF_FOCAL_SIGMA)),
        ((600, 480), None, None),
    ],
)
def test_which_camera_is_probable(
    size: tuple[int, int], known: float | None, expected: CameraPrior | None
) -> None:
    localizer = Localizer(None, None, Views())  # type: ignore[arg-type]
    prior = None if known is None else CameraPrior(centered_camera(*size, known), EXIF_FOCAL_SIGMA)
    assert localizer.probable_camera(*size, prior) == expected
