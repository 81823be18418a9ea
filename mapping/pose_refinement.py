"""Poses that are only roughly right, as of a phone's tracking, refined by bundle adjustment.

Matches of images are verified by a relative pose of their own instead of the given ones. Tracks of them are
triangulated with wide tolerances, and poses and points are refined together, with the given poses as priors,
which keep the coordinates and the scale; then once more, with tracks of the refined poses and with priors as
wide as the given poses have turned out to be wrong. Radial distortion that the images still have is refined
with them if they are all of one lens, for the sake of the poses: the cameras stay as they are.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.pose.distortion import undistort_pixels
from gsplatloc.mapping.bundle_adjustment import Model, Observations, PosePriors, bundle_adjust
from gsplatloc.mapping.matched_pairs import fit_relative_pose
from gsplatloc.mapping.triangulation import (
    MIN_LENGTH,
    epipolar_distances,
    fixed_reconstruction,
    match_keypoints,
    matched_pixels,
    pipeline_options,
    pixel_scale,
    quiet_pycolmap,
    select_pairs,
    write_database,
)
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import log, progress, stopwatch

_MIN_INLIERS = 20  # of the relative pose of a pair
_RANSAC_ITERATIONS = 50, 500  # of that pose, at least and at most
_WIDE_PX = 60.0  # from the epipolar line of the given poses: 1 degree and 2 cm are about 20 pixels
_WIDE_ANGLE_DEG = 6.0  # between the rays of a track and its point, with the given poses
_NEIGHBOURS = 10  # views that each view is matched with
_KEYPOINTS = 1000  # of a view, the best: more make the poses hardly better
_TRACKS = 150  # of a view: the longest
_ROUNDS = 2  # of triangulation and bundle adjustment
_LOSS_PX = 1.0  # residuals beyond it have little weight (Cauchy)
_FIRST_SIGMA = 0.02  # of the given positions, per axis, in units of the spread of the cameras
_FIRST_SIGMA_DEG = 1.0  # of the given rotations, per axis
_LEAST_SIGMA = 1e-4  # of positions in units of that spread, and of rotations in radians
_RADIAL_SIGMA = 0.1  # of the distortion common to all views: lenses of phones are below it
_ONE_LENS = 1.05  # largest ratio of the focal lengths of one lens, which breathes as it focuses
_GIVEN_AGREE = 1.15  # given poses whose median epipolar distance is below so many times the refined are kept
_MEDIAN_OF_3D = 1.538  # median length of a standard normal vector in three dimensions


# Two views, and indices [K, 2] uint32 of their keypoints, whose matches fit one relative pose.
_Pair = tuple[int, int, np.ndarray]


def refine_poses(
    views: Sequence[View],
    keypoints: Sequence[Keypoints],
    device: torch.device | str = "cpu",
    quiet: bool = True,
) -> list[View]:
    """The views with refined poses; as they are, if their poses fit the matches about as well."""
    keypoints = [_best(found) for found in keypoints]
    pairs = _verified_pairs(views, keypoints, torch.device(device), quiet)
    if not pairs:
        return list(views)
    with tempfile.TemporaryDirectory() as folder, quiet_pycolmap(), stopwatch("refining poses", quiet):
        adjusted = _adjusted(views, keypoints, pairs, Path(folder))
    refined = [view.with_pose(pose) for view, pose in zip(views, adjusted.poses)]
    # Of the images as they are, and of what bundle adjustment fitted: poses without a lens fit worse by it.
    before = _median_distance(views, keypoints, pairs)
    after = _median_distance(refined, _undistorted(views, keypoints, adjusted.radial), pairs)
    moved = (se3.camera_center(_poses(refined)) - se3.camera_center(_poses(views))).norm(dim=1).median()
    found = f"poses: matches are {before:.2f} px from their epipolar lines, {after:.2f} px after refinement"
    if before < _GIVEN_AGREE * after:
        log(f"{found}: the given poses are kept", quiet)
        return list(views)
    lens = f", with a distortion of {adjusted.radial:.3f}" if abs(adjusted.radial) >= 0.0005 else ""
    log(f"{found}, which moves cameras by {moved:.3g}{lens}", quiet)
    return refined


def _verified_pairs(
    views: Sequence[View], keypoints: Sequence[Keypoints], device: torch.device, quiet: bool
) -> list[_Pair]:
    """Pairs of views with enough matches that fit one relative pose, and the given ones roughly."""
    scale, pairs = pixel_scale(views), []
    selected = select_pairs(views, _NEIGHBOURS)
    for a, b in progress(selected, len(selected), "checking poses", quiet):
        of_a, of_b, view_a, view_b = keypoints[a], keypoints[b], views[a], views[b]
        matches = match_keypoints(of_a, of_b, device)
        xy_a, xy_b = matched_pixels(of_a, of_b, matches)
        near = epipolar_distances(view_a, view_b, xy_a, xy_b) < _WIDE_PX * scale
        if near.sum() < _MIN_INLIERS:
            continue
        inliers = fit_relative_pose(view_a, view_b, xy_a[near], xy_b[near], scale, *_RANSAC_ITERATIONS)
        if inliers.sum() >= _MIN_INLIERS:
            pairs.append((a, b, matches[near][inliers]))
    return pairs


def _adjusted(
    views: Sequence[View], keypoints: Sequence[Keypoints], pairs: Sequence[_Pair], folder: Path
) -> Model:
    """The model after bundle adjustment."""
    given, scale = _poses(views), pixel_scale(views)
    centers = se3.camera_center(given)
    spread = max(float((centers - centers.mean(0)).norm(dim=1).median()), 1e-6)
    sigmas = _FIRST_SIGMA * spread, math.radians(_FIRST_SIGMA_DEG)
    model, radial_sigma = Model(given, given.new_zeros(0, 3)), _radial_sigma(views)
    for step in range(_ROUNDS):
        options = pipeline_options(scale)
        if step == 0:
            _widen(options, scale)
        posed = [view.with_pose(pose) for view, pose in zip(views, model.poses)]
        reconstruction = fixed_reconstruction(posed, _undistorted(views, keypoints, model.radial))
        output = folder / str(step)
        output.mkdir()
        write_database(output / "database.db", reconstruction, pairs)
        reconstruction = pycolmap.triangulate_points(
            reconstruction, output / "database.db", folder, output, options=options
        )
        observations, points = _observations(reconstruction, views, keypoints)
        if not len(points):
            return Model(given, points)
        start = Model(model.poses, points, model.radial)
        model = bundle_adjust(observations, start, PosePriors(given, sigmas, radial_sigma), _LOSS_PX * scale)
        sigmas = _noise(model.poses, given, spread)
    return model


def _radial_sigma(views: Sequence[View]) -> float:
    """The standard deviation of the radial distortion: 0 where images are of several lenses.

    Three of it stay below the distortion at which the corner of an image would be seen twice.
    """
    cameras = [view.camera for view in views]
    focals = [camera.fx for camera in cameras]
    if len({(c.width, c.height) for c in cameras}) > 1 or max(focals) > _ONE_LENS * min(focals):
        return 0.0
    farthest = max(math.hypot(c.width / 2 / c.fx, c.height / 2 / c.fy) for c in cameras)
    return min(_RADIAL_SIGMA, 1 / (9 * farthest**2))


def _undistorted(views: Sequence[View], keypoints: Sequence[Keypoints], radial: float) -> Sequence[Keypoints]:
    """The keypoints as a pinhole camera would have seen them."""
    if not radial:
        return keypoints
    pixels = [
        undistort_pixels(found.xy.numpy(), view.camera, radial) for view, found in zip(views, keypoints)
    ]
    return [replace(found, xy=torch.from_numpy(xy).float()) for found, xy in zip(keypoints, pixels)]


def _widen(options: pycolmap.IncrementalPipelineOptions, scale: float) -> None:
    """Tolerances for rough poses. Tracks are not merged: with these, neighbouring points would be."""
    options.triangulation.create_max_angle_error = _WIDE_ANGLE_DEG
    options.triangulation.continue_max_angle_error = _WIDE_ANGLE_DEG
    options.triangulation.merge_max_reproj_error = 0.5
    options.triangulation.complete_max_reproj_error = 0.5
    options.mapper.filter_max_reproj_error = _WIDE_PX * scale


def _noise(poses: Tensor, given: Tensor, spread: float) -> tuple[float, float]:
    """Standard deviations per axis of the given poses, position and rotation, from what was refined."""
    lengths = se3.se3_log(poses @ se3.inverse(given)).view(-1, 2, 3).norm(dim=2).median(0).values
    position, rotation = (lengths / _MEDIAN_OF_3D).tolist()
    return max(position, _LEAST_SIGMA * spread), max(rotation, _LEAST_SIGMA)


def _observations(
    reconstruction: pycolmap.Reconstruction, views: Sequence[View], keypoints: Sequence[Keypoints]
) -> tuple[Observations, Tensor]:
    """The longest tracks of every view, observed at its keypoints, and their points [M, 3]."""
    points = sorted(reconstruction.points3D.values(), key=lambda point: -point.track.length())
    counts = [0] * len(views)
    kept: list[np.ndarray] = []
    rows: list[tuple[int, int, int]] = []
    for point in points:
        seen = [(element.image_id - 1, element.point2D_idx) for element in point.track.elements]
        if len(seen) < MIN_LENGTH or all(counts[view] >= _TRACKS for view, _ in seen):
            continue
        for view, keypoint in dict(seen).items():
            counts[view] += 1
            rows.append((view, len(kept), keypoint))
        kept.append(point.xyz)
    view, point_index, keypoint = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).T
    starts = torch.tensor([0, *(len(found) for found in keypoints)]).cumsum(0)
    xy = torch.cat([found.xy for found in keypoints]).double()[starts[view] + keypoint]
    cameras = torch.tensor([[v.camera.fx, v.camera.fy, v.camera.cx, v.camera.cy] for v in views]).double()
    found = Observations(view, point_index, xy, cameras[view])
    return found, torch.from_numpy(np.array(kept, np.float64).reshape(-1, 3))


def _best(found: Keypoints) -> Keypoints:
    return Keypoints(found.xy[:_KEYPOINTS], found.descriptors[:_KEYPOINTS], found.scores[:_KEYPOINTS])


def _poses(views: Sequence[View]) -> Tensor:
    return torch.stack([view.cam_from_world for view in views])


def _median_distance(views: Sequence[View], keypoints: Sequence[Keypoints], pairs: Sequence[_Pair]) -> float:
    """Median distance in pixels of matches from their epipolar lines."""
    distances = [
        epipolar_distances(views[a], views[b], *matched_pixels(keypoints[a], keypoints[b], matches))
        for a, b, matches in pairs
    ]
    return float(np.median(np.concatenate(distances)))
