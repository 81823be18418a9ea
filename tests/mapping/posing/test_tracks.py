"""Keypoints aligned by images that show a wall from different sides."""

from types import SimpleNamespace

import cv2
import numpy as np
import pycolmap
import pytest

from gsplatloc.mapping.posing import tracks
from gsplatloc.mapping.triangulation import quiet_pycolmap

NOISE_PX = 1.0  # of keypoints, as of a network's
SIDE = 400  # pixels


@pytest.fixture
def wall() -> np.ndarray:
    """A texture of blobs [SIDE, SIDE] uint8."""
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def errors_after(wall: np.ndarray, affine: np.ndarray, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Distances [count] in pixels of aligned keypoints from their true places, and which were aligned.

    The second image shows the wall through `affine` [2, 3].
    """
    draws = np.random.default_rng(1)
    first = draws.uniform(150, 250, (count, 2))
    second = first @ affine[:, :2].T + affine[:, 2]
    shown = cv2.warpAffine(wall, affine, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    images = {1: first, 2: second + draws.normal(0, NOISE_PX / 2**0.5, (count, 2))}
    points = {
        number: SimpleNamespace(points2D=[SimpleNamespace(xy=pixel + 0.5) for pixel in pixels])
        for number, pixels in images.items()
    }
    pairs = np.arange(count)[:, None].repeat(2, 1)
    kept = tracks._follow(SimpleNamespace(images=points), 1, 2, pairs, {1: wall, 2: shown}.__getitem__)
    moved = np.array([point.xy for point in points[2].points2D]) - 0.5
    return np.linalg.norm(moved - second, axis=1), kept


def around_the_middle(matrix: np.ndarray) -> np.ndarray:
    middle = np.array([SIDE / 2, SIDE / 2])
    return np.column_stack([matrix, middle - matrix @ middle])


SIDES = {
    "same side": np.eye(2),
    "foreshortened": np.array([[0.55, 0.0], [0.1, 1.0]]),
    "turned": cv2.getRotationMatrix2D((0, 0), 35, 1.0)[:, :2],
    "closer": 1.6 * np.eye(2),
}


@pytest.mark.parametrize("side", SIDES)
def test_keypoints_of_a_wall_are_aligned_to_a_fraction_of_a_pixel(wall: np.ndarray, side: str) -> None:
    errors, kept = errors_after(wall, around_the_middle(SIDES[side]))
    assert kept.mean() > 0.9
    assert np.median(errors[kept]) < 0.15


def test_a_flattened_window_is_compared_as_it_is(wall: np.ndarray) -> None:
    points = np.random.default_rng(2).uniform(100, 300, (20, 2)).astype(np.float32)
    flat = (points * (1.0, 0.1)).astype(np.float32)
    image, start = tracks._seen_from_the_other(wall, points, flat, wall.shape)
    assert image is wall and start is points


def synthetic(noise_px: float) -> pycolmap.Reconstruction:
    """Six views of 200 points."""
    size = {"num_rigs": 1, "num_cameras_per_rig": 1, "num_frames_per_rig": 6, "num_points3D": 200}
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(**size))
    draws = np.random.default_rng(4)
    for image in model.images.values():
        for point in image.points2D:
            point.xy += draws.normal(0, noise_px, 2)
    return model


def test_bundle_adjustment_fits_observations_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = synthetic(noise_px=0.2)
    camera = next(iter(model.cameras.values()))
    focal = camera.mean_focal_length()
    camera.params = camera.params * np.where(np.arange(len(camera.params)) == 0, 1.02, 1.0)
    with quiet_pycolmap():
        tracks.adjust_and_filter(model)
    assert capfd.readouterr() == ("", "")
    assert camera.mean_focal_length() == pytest.approx(focal, rel=0.005)
    assert model.compute_mean_reprojection_error() < 0.4


@pytest.mark.parametrize("count", [3, 20])
def test_images_of_two_shapes_are_compared(wall: np.ndarray, count: int) -> None:
    """A portrait photo among landscape ones; with too few points for an affine map, too."""
    portrait = np.ascontiguousarray(wall[:, : wall.shape[1] // 2])
    points = np.random.default_rng(3).uniform(60, 140, (count, 2)).astype(np.float32)
    image, start = tracks._seen_from_the_other(wall, points, points.copy(), portrait.shape)
    assert image.shape == portrait.shape
    np.testing.assert_allclose(start, points, atol=1e-3)
    np.testing.assert_array_equal(image[60:140, 60:140], portrait[60:140, 60:140])
