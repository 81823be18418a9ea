"""Radial distortion of cameras that are not known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.features import Features
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.pose.camera.fit import fit_camera
from gsplatloc.localization.pose.camera.model import CameraFit
from gsplatloc.localization.pose.distortion import undistort_image, undistort_pixels
from gsplatloc.localization.pose.pnp import estimate_pose
from gsplatloc.localization.pose.reprojection import observe
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from tests.localization.world import pose_errors

CAMERA = Camera(640, 480, 520.0, 520.0, 320.0, 240.0)
GUESS = replace(CAMERA, fx=640.0, fy=640.0)
TRUTH = se3.se3_exp(torch.tensor([0.3, -0.2, 0.5, 0.1, -0.3, 0.2], dtype=torch.float64))


def distort(pixels: np.ndarray, k: float) -> np.ndarray:
    center = np.array([CAMERA.cx, CAMERA.cy])
    normalised = (pixels - center) / CAMERA.fx
    return center + CAMERA.fx * normalised * (1 + k * (normalised**2).sum(1, keepdims=True))


def localize(k: float, noise_px: float = 0.5) -> tuple[PoseEstimate, np.ndarray]:
    """The pose of 400 points seen through a lens of distortion k, and their undistorted pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(400, 2, generator=generator, dtype=torch.float64) * torch.tensor([600.0, 440.0]) + 20
    depth = torch.rand(400, generator=generator, dtype=torch.float64) * 4 + 1
    world_from_cam = se3.inverse(TRUTH)
    points = CAMERA.unproject(pixels, depth) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    seen = distort(pixels.numpy(), k) + noise_px * np.random.default_rng(0).normal(size=(400, 2))
    return estimate_pose(seen, points.numpy(), GUESS, focal_known=False), pixels.numpy()


@pytest.mark.parametrize("k", [-0.1, 0.1])
def test_distortion_is_found_with_pose_and_focal_length(k: float) -> None:
    estimate, _ = localize(k)
    translation, rotation = pose_errors(estimate.pose(), TRUTH)
    assert estimate.distortion == pytest.approx(k, abs=0.01)
    assert estimate.camera.fx == pytest.approx(CAMERA.fx, rel=0.005)
    assert translation < 0.01
    assert rotation < 0.1


def test_matches_are_those_of_a_pinhole_camera() -> None:
    estimate, pixels = localize(-0.1)
    assert estimate.matches is not None
    assert np.abs(estimate.matches.pixels - pixels).max() < 3.0


def test_a_pinhole_camera_is_given_next_to_no_distortion() -> None:
    estimate, _ = localize(0.0)
    assert abs(estimate.distortion) < 0.005


def test_matches_behind_the_camera_do_no_harm() -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (40, 3)) + [0, 0, 3] * np.where(np.arange(40) < 10, 1, -1)[:, None]
    seen = observe(torch.from_numpy(generator.uniform(0, 480, (40, 2))), torch.from_numpy(points))
    start = CameraFit(torch.eye(4, dtype=torch.float64), CAMERA)
    with np.errstate(invalid="raise", divide="raise"):
        fit = fit_camera(start, CAMERA, seen)
    assert fit.cam_from_world.isfinite().all() and np.isfinite(fit.camera.fx)


@pytest.mark.parametrize("k", [-0.1, 0.1])
def test_pixels_are_undistorted(k: float) -> None:
    pixels = np.array([[320.0, 240.0], [20.5, 30.0], [600.0, 470.0]])
    assert undistort_pixels(distort(pixels, k), CAMERA, k) == pytest.approx(pixels, abs=0.01)


@pytest.mark.parametrize("k", [-0.15, 0.15])
def test_pixels_far_from_the_centre_of_a_wide_lens_are_undistorted(k: float) -> None:
    wide = Camera(960, 720, 300, 300, 480, 360)
    seen = (np.array([[0.0, 0.0], [480.0, 360.0], [900.0, 360.0]]) - 0.5 * np.array([960, 720])) / 300
    distorted = 300 * seen * (1 + k * (seen**2).sum(1, keepdims=True)) + [480, 360]
    inside = (seen**2).sum(1) < 1 / (3 * abs(k))
    found = undistort_pixels(distorted, wide, k)
    assert found[inside] == pytest.approx((300 * seen + [480, 360])[inside], abs=1e-6)
    assert np.isfinite(found).all()


def test_an_image_is_undistorted_to_where_its_pixels_are() -> None:
    k, place = -0.1, np.array([[500.5, 400.5]])
    image = np.zeros((480, 640, 3), np.uint8)
    rows, columns = np.mgrid[:480, :640] + 0.5
    seen = distort(place, k)[0]
    image[...] = (200 * np.exp(-((columns - seen[0]) ** 2 + (rows - seen[1]) ** 2) / 18))[..., None]
    peak = np.unravel_index(undistort_image(image, CAMERA, k)[..., 0].argmax(), (480, 640))
    assert np.hypot(peak[1] + 0.5 - place[0, 0], peak[0] + 0.5 - place[0, 1]) < 1.0


class Witness:
    """A refiner that keeps the query it is given."""

    name = "witness"

    def __init__(self) -> None:
        self.queries: list[Query] = []

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        self.queries.append(query)
        return initial


def picture() -> np.ndarray:
    """Random blocks of several sizes: corners everywhere."""
    rng, image = np.random.default_rng(1), np.zeros((480, 640, 3))
    for block in (7, 15, 31):
        coarse = rng.integers(0, 80, (480 // block + 1, 640 // block + 1, 3))
        image += coarse.repeat(block, 0).repeat(block, 1)[:480, :640]
    return image.astype(np.uint8)


def through_lens(image: np.ndarray, k: float) -> np.ndarray:
    """The image as a camera with distortion `k` takes it."""
    rows, columns = np.mgrid[:480, :640] + 0.5
    source = undistort_pixels(np.column_stack([columns.ravel(), rows.ravel()]), CAMERA, k) - 0.5
    maps = source.astype(np.float32).reshape(480, 640, 2)
    return cv2.remap(image, maps, None, cv2.INTER_LINEAR)


def landmarks_of(features: Features, version: str) -> Landmarks:
    """An image's keypoints as the landmarks of a camera at the origin, at any depths."""
    count = len(features.keypoints)
    depth = 1 + 4 * torch.rand(count, generator=torch.Generator().manual_seed(0))
    positions = CAMERA.unproject(features.keypoints.xy, depth)
    distances = positions.norm(dim=1, keepdim=True)
    return Landmarks(
        positions, features.keypoints.descriptors, -positions / distances, distances.repeat(1, 2),
        torch.full((count,), 5, dtype=torch.int32), version,
    )  # fmt: skip


@pytest.mark.parametrize("k", [-0.12, 0.08])
def test_a_distorted_photo_of_an_unknown_camera_is_localized_and_refined_undistorted(k: float) -> None:
    extractor, image = XFeatExtractor(top_k=1024), picture()
    landmarks = landmarks_of(extractor.extract(image), extractor.version)
    witness = Witness()
    localizer = Localizer(LandmarkPose(landmarks), extractor, refiners=[witness])
    found = localizer.localize(through_lens(image, k)).final
    assert found.distortion == pytest.approx(k, abs=0.02)
    assert found.camera.fx == pytest.approx(CAMERA.fx, rel=0.01)
    translation, rotation = pose_errors(found.pose(), torch.eye(4, dtype=torch.float64))
    assert translation < 0.03 and rotation < 0.3
    middle = np.s_[60:-60, 60:-60]  # the lens did not see all corners
    difference = witness.queries[0].image[middle].astype(int) - image[middle].astype(int)
    distorted = through_lens(image, k)[middle].astype(int) - image[middle].astype(int)
    assert np.abs(difference).mean() < 0.5 * np.abs(distorted).mean()
    again = extractor.extract(witness.queries[0].image).dense
    torch.testing.assert_close(witness.queries[0].dense, again)
