"""Radial distortion of an unknown camera: removed from pixels and images.

COLMAP's SIMPLE_RADIAL: a point at normalised (x, y) is seen at (x, y) * (1 + k (x^2 + y^2)). Photos of
unknown cameras are as they were taken, mostly not undistorted.
"""

import math

import cv2
import numpy as np

from gsplatloc.scene.cameras import Camera

_NEWTON_STEPS = 12


def undistort_pixels(pixels: np.ndarray, camera: Camera, distortion: float) -> np.ndarray:
    """`pixels` [N, 2] as a pinhole camera would have taken them."""
    center, focal = np.array([camera.cx, camera.cy]), np.array([camera.fx, camera.fy])
    seen = (pixels.astype(np.float64) - center) / focal
    distorted = np.linalg.norm(seen, axis=1, keepdims=True)
    ratio = _undistorted(distorted, distortion) / np.maximum(distorted, 1e-12)
    return np.where(distorted > 1e-12, ratio, 1.0) * seen * focal + center


def largest_radius(distortion: float) -> float:
    """The normalised radius beyond which a lens of negative distortion would show points twice."""
    return math.inf if distortion >= 0 else 1 / math.sqrt(-3 * distortion)


def _undistorted(radius: np.ndarray, distortion: float) -> np.ndarray:
    """Solve r (1 + k r^2) = `radius` by Newton's method; the largest r where there is no solution.

    From r = `radius` it converges from one side. cv2.undistortPoints stops after five fixed-point steps: 3
    pixels are left at r = 1.2 for k = -0.15 and a focal length of 300 pixels.
    """
    largest = largest_radius(distortion)
    found = np.minimum(radius, largest)
    for _ in range(_NEWTON_STEPS):
        excess = found * (1 + distortion * found**2) - radius
        found = np.clip(found - excess / np.maximum(1 + 3 * distortion * found**2, 1e-9), 0, largest)
    return found


def undistort_image(image: np.ndarray, camera: Camera, distortion: float) -> np.ndarray:
    """An image [H, W, 3] as a pinhole camera would have taken it; black outside of the given image."""
    matrix = _matrix(camera, 0.5)  # OpenCV's first pixel centre is at 0
    return cv2.undistort(image, matrix, _coefficients(distortion))


def _matrix(camera: Camera, origin: float) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx - origin], [0, camera.fy, camera.cy - origin], [0, 0, 1]])


def _coefficients(distortion: float) -> np.ndarray:
    return np.array([distortion, 0.0, 0.0, 0.0])
