"""Radial distortion of an unknown camera: estimated from matches, removed from pixels and images.

COLMAP's SIMPLE_RADIAL: a point at normalised (x, y) is seen at (x, y) * (1 + k (x^2 + y^2)). Photos of
unknown cameras are as they were taken, mostly not undistorted.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from gsplatloc.localization.result import Matches
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.colmap import pycolmap

_PASSES = 2  # of refining the pose and selecting the inliers
_MATCHES_PER_ERROR = 8.0  # matches that share an error, as in `localization.landmarks.guided`
_MIN_GAIN = 1.0  # of log likelihood for one more parameter (Akaike 1974)
_RMS_PER_MEDIAN = 0.849  # per coordinate, relative to the median length of a normal vector in two dimensions


@dataclass(frozen=True)
class RadialSolution:
    """A pose together with a focal length and a distortion."""

    cam_from_world: pycolmap.Rigid3d
    focal: float  # pixels
    distortion: float  # k


def find_distortion(
    start: pycolmap.Rigid3d, camera: pycolmap.Camera, matches: Matches, max_error_px: float, loss_px: float
) -> RadialSolution | None:
    """The pose, focal length and k near a pose and a SIMPLE_PINHOLE camera.

    None if the matches do not support a k: Akaike's criterion asks that it raise the log likelihood of the
    inliers by one, and no inlier may be lost.
    """
    radial = pycolmap.Camera(
        model="SIMPLE_RADIAL", width=camera.width, height=camera.height, params=[*camera.params, 0.0]
    )
    options = pycolmap.AbsolutePoseRefinementOptions(refine_focal_length=True, refine_extra_params=True)
    options.loss_function_scale = loss_px
    before = _errors(start, camera, matches)
    pose, inliers = start, matches.inliers
    for _ in range(_PASSES):
        found = pycolmap.refine_absolute_pose(pose, matches.pixels, matches.points, inliers, radial, options)
        if found is None or not _invertible(radial):
            return None
        pose = found["cam_from_world"]
        after = _errors(pose, radial, matches)
        inliers = after < max_error_px
    noise = max(_RMS_PER_MEDIAN * float(np.median(after[matches.inliers])), 1e-3)
    if noise == np.inf:  # most inliers of the start are behind the camera
        return None
    gain = _cost(before[matches.inliers], noise) - _cost(after[matches.inliers], noise)
    if gain < _MIN_GAIN * _MATCHES_PER_ERROR or inliers.sum() < matches.inliers.sum():
        return None
    return RadialSolution(pose, radial.focal_length, float(radial.params[3]))


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


def _errors(pose: pycolmap.Rigid3d, camera: pycolmap.Camera, matches: Matches) -> np.ndarray:
    """Reprojection errors [M] in pixels; inf behind the camera."""
    points = matches.points @ pose.rotation.matrix().T + pose.translation
    front = points[:, 2] > 0
    errors = np.full(len(points), np.inf)
    seen = np.asarray(camera.img_from_cam(points[front]))
    errors[front] = np.linalg.norm(seen - matches.pixels[front], axis=1)
    return errors


def _cost(errors: np.ndarray, noise: float) -> float:
    """Negative log likelihood under a Cauchy distribution, robust against wrong matches."""
    return float(np.log1p((errors / noise) ** 2 / 2).sum())


def _invertible(camera: pycolmap.Camera) -> bool:
    """Whether the distorted radius still grows with the radius at the image's corners."""
    focal, cx, cy, distortion = camera.params
    farthest = math.hypot(max(cx, camera.width - cx), max(cy, camera.height - cy)) / focal
    return 1 + 3 * distortion * farthest**2 > 0


def _matrix(camera: Camera, origin: float) -> np.ndarray:
    return np.array([[camera.fx, 0, camera.cx - origin], [0, camera.fy, camera.cy - origin], [0, 0, 1]])


def _coefficients(distortion: float) -> np.ndarray:
    return np.array([distortion, 0.0, 0.0, 0.0])
