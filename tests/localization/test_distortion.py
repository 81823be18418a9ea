"""Radial distortion of cameras that are not known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from localization.distortion import undistort_image, undistort_pixels
from localization.pnp import estimate_pose
from localization.result import PoseEstimate, pose_errors
from scene.cameras import Camera
from utils import se3

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


@pytest.mark.parametrize("k", [-0.1, 0.1])
def test_pixels_are_undistorted(k: float) -> None:
    pixels = np.array([[320.0, 240.0], [20.5, 30.0], [600.0, 470.0]])
    assert undistort_pixels(distort(pixels, k), CAMERA, k) == pytest.approx(pixels, abs=0.01)


def test_an_image_is_undistorted_to_where_its_pixels_are() -> None:
    k, place = -0.1, np.array([[500.5, 400.5]])
    image = np.zeros((480, 640, 3), np.uint8)
    rows, columns = np.mgrid[:480, :640] + 0.5
    seen = distort(place, k)[0]
    image[...] = (200 * np.exp(-((columns - seen[0]) ** 2 + (rows - seen[1]) ** 2) / 18))[..., None]
    peak = np.unravel_index(undistort_image(image, CAMERA, k)[..., 0].argmax(), (480, 640))
    assert np.hypot(peak[1] + 0.5 - place[0, 0], peak[0] + 0.5 - place[0, 1]) < 1.0
