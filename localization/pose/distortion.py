"""Radial distortion of an unknown camera: removed from pixels and images.

COLMAP's SIMPLE_RADIAL: a point at normalised (x, y) is seen at (x, y) * (1 + k (x^2 + y^2)). Photos of
unknown cameras are as they were taken, mostly not undistorted.
"""

import cv2
import numpy as np

from gsplatloc.scene.cameras import Camera


def undistort_pixels(pixels: np.ndarray, camera: Camera, distortion: float) -> np.ndarray:
    """`pixels` [N, 2] as a pinhole camera would have taken them."""
    return cv2.undistortPoints(
        pixels.astype(np.float64).reshape(-1, 1, 2), _matrix(camera, 0.0), _coefficients(distortion),
        P=_matrix(camera, 0.0),
    ).reshape(-1, 2)  # fmt: skip


def undistort_image(image: np.ndarray, camera: Camera, distortion: float) -> np.ndarray:
    """An image [H, W, 3] as a pinhole camera would have taken it; black outside of the given image."""
    matrix = _matrix(camera, 0.5)  # OpenCV's first pixel centre is at 0
    return cv2.undistort(image, matrix, _coefficients(distortion))


def _matrix(camera: Camera, origin: float) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx - origin], [0, camera.fy, camera.cy - origin], [0, 0, 1]])


def _coefficients(distortion: float) -> np.ndarray:
    return np.array([distortion, 0.0, 0.0, 0.0])
