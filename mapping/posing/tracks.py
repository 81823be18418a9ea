"""Keypoints of a model moved to where the images show the same point, and the model refined with them.

Networks locate keypoints to about a pixel, in each image on its own. As Lindenberger et al. do with features
("Pixel-Perfect Structure-from-Motion", ICCV 2021), every track is aligned by the images themselves: the
window around its observation in one image is searched for in the others (Lucas and Kanade 1981). Observations
that are not found there are removed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from gsplatloc.scene.images import decode_upright
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import progress

_WINDOW = 21  # pixels, side of the window that is searched for
_FEWEST = 8  # points of a pair of images to which an affine map is fitted
_FIT_PX = 20.0  # from where that map shows a point, beyond which a point is an outlier of the fit
_SAME_SHAPE = 0.1  # largest change of an entry of the map's matrix for which images are compared as they are
_STRETCH = 2.5  # of a map in any direction, at most
_MAX_MOVE_PX = 3.0  # keypoints that would move further are not aligned
_ENOUGH = 50  # aligned observations of an image, which then loses the others
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)  # at most 20, until they are 0.01 px
_LOSS_PX = 0.5  # residuals beyond it have little weight (Cauchy)
# Observations further from their point are removed, and the model is refined again.
_MAX_ERRORS_PX = (2.0, 1.0)
_MIN_ANGLE_DEG = 1.5  # between two rays of a point; points seen under less are removed (COLMAP's default)
_ITERATIONS = 20  # of bundle adjustment, at most
_LARGEST_SIDE = 640  # pixels of images for which these errors are; they grow with larger ones
_KEPT = 64  # decoded images in memory

Observation = tuple[int, int]  # image and keypoint


def refine_tracks(model: pycolmap.Reconstruction, images: Path, quiet: bool = False) -> None:
    """Move the keypoints that `model` uses, and refine its poses, points and cameras, in place."""

    @lru_cache(_KEPT)
    def grey(image: int) -> np.ndarray:
        return cv2.cvtColor(decode_upright(images / model.images[image].name), cv2.COLOR_RGB2GRAY)

    groups = _pairs_of_observations(model)
    lost: dict[int, list[int]] = defaultdict(list)
    aligned: Counter[int] = Counter()
    for (a, b), pairs in progress(sorted(groups.items()), len(groups), "aligning keypoints", quiet):
        keypoints = np.array(pairs)
        kept = _follow(model, a, b, keypoints, grey)
        aligned[b] += int(kept.sum())
        lost[b] += keypoints[~kept, 1].tolist()
    for image in [image for image in lost if aligned[image] >= _ENOUGH]:
        for index in lost[image]:
            if model.images[image].points2D[index].has_point3D():  # a point of two observations loses both
                model.delete_observation(image, index)
    adjust_and_filter(model, quiet)
    model.extract_colors_for_all_images(images)


def adjust_and_filter(model: pycolmap.Reconstruction, quiet: bool = True) -> None:
    """Robust bundle adjustment, and again after observations far from their points are removed."""
    side = max(max(camera.width, camera.height) for camera in model.cameras.values())
    rounds = (None, *_MAX_ERRORS_PX)
    for most in progress(rounds, len(rounds), "refining poses", quiet):
        if most is not None:
            observations = pycolmap.ObservationManager(model)
            observations.filter_all_points3D(most * max(1.0, side / _LARGEST_SIDE), _MIN_ANGLE_DEG)
        _adjust(model)
    model.update_point_3d_errors()


def _pairs_of_observations(model: pycolmap.Reconstruction) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """By pair of images: keypoints of the first, a track's reference, and of the second that show its point.

    The reference is seen from the track's median distance, so that the others differ least in scale.
    """
    centers = {number: image.projection_center() for number, image in model.images.items() if image.has_pose}
    groups = defaultdict(list)
    for point in model.points3D.values():
        track = [(element.image_id, element.point2D_idx) for element in point.track.elements]
        distances = [np.linalg.norm(centers[image] - point.xyz) for image, _ in track]
        reference, keypoint = track[int(np.argsort(distances, kind="stable")[len(track) // 2])]
        for image, other in track:
            if image != reference:
                groups[reference, image].append((keypoint, other))
    return groups


def _follow(
    model: pycolmap.Reconstruction, a: int, b: int, pairs: np.ndarray, grey: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Move keypoints of image b to where it shows the windows around keypoints of image a: which [K] bool."""
    points = [model.images[a].points2D, model.images[b].points2D]
    start, guess = (
        np.array([of[index].xy for index in column], np.float32) - 0.5 for of, column in zip(points, pairs.T)
    )  # OpenCV counts from the centre of the first pixel
    other = grey(b)
    first, start = _seen_from_the_other(grey(a), start, guess, other.shape)
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        first, other, start, guess.copy(), winSize=(_WINDOW, _WINDOW), maxLevel=0, criteria=_STEPS,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    kept = (status[:, 0] == 1) & (np.linalg.norm(found - guess, axis=1) < _MAX_MOVE_PX)
    for index, pixel in zip(pairs[kept, 1], found[kept]):
        points[1][index].xy = pixel.astype(np.float64) + 0.5
    return kept


def _seen_from_the_other(
    image: np.ndarray, points: np.ndarray, others: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """`image` and its `points` [K, 2] after the affine map that brings most of these to `others` [K, 2].

    Windows of views that are far apart differ by such a map: of a wall, foreshortening, scale and turn.
    `shape` [2] is that of the other image, and of the image returned.
    """
    affine = None
    if len(points) >= _FEWEST:
        affine, _ = cv2.estimateAffine2D(points, others, ransacReprojThreshold=_FIT_PX)
    if affine is None or not _plausible(affine[:, :2]):
        affine = np.eye(2, 3)
    if image.shape == shape and np.abs(affine[:, :2] - np.eye(2)).max() < _SAME_SHAPE:
        return image, points
    height, width = shape
    warped = cv2.warpAffine(image, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return warped, (points @ affine[:, :2].T + affine[:, 2]).astype(np.float32)


def _plausible(matrix: np.ndarray) -> bool:
    """Whether the [2, 2] `matrix` of an affine map stretches no direction too much."""
    longest, shortest = np.linalg.svd(matrix, compute_uv=False)
    return bool(longest <= _STRETCH and shortest >= 1 / _STRETCH)


def _adjust(model: pycolmap.Reconstruction) -> None:
    options = pycolmap.BundleAdjustmentOptions(print_summary=False)
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = _LOSS_PX
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    config = pycolmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        config.add_image(image)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    # Not `pycolmap.bundle_adjustment`: it switches COLMAP's log on.
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
