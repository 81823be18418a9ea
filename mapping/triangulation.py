"""Sparse points from posed images: keypoints matched between views, triangulated with fixed poses.

The poses are the scene's and are not changed; pycolmap builds tracks, triangulates and refines the points
(Schoenberger & Frahm, "Structure-from-Motion Revisited", CVPR 2016). Pixel thresholds are for images whose
longer side is 640 pixels, and grow in proportion to larger images.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.scene.cameras import View
from gsplatloc.utils import se3
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import progress, stopwatch

_REFERENCE_SIDE = 640  # pixels
_NEIGHBOURS = 20  # views that each view is matched with
_MAX_VIEW_ANGLE_DEG = 50.0  # between the viewing directions of a pair; XFeat fails beyond
MIN_SIMILARITY = 0.82  # cosine; XFeat's released setting
MAX_EPIPOLAR_PX = 3.0  # distance to the epipolar line, in both images
_MIN_MATCHES = 15  # of a pair; fewer may be wrong matches alone
_MAX_ERROR_PX = 4.0  # mean reprojection error of a track; COLMAP's default
_MIN_ANGLE_DEG = 1.5  # between the rays of a track; COLMAP's default
_MAX_ITERATIONS = 10  # of points with fixed poses; COLMAP's 50 give the same points, a tenth later
MIN_LENGTH = 3  # observations per track


@dataclass(frozen=True)
class Tracks:
    """Triangulated points, and which keypoint of which view saw each."""

    positions: np.ndarray  # [M, 3] float64, world
    colors: np.ndarray  # [M, 3] uint8 RGB, mean over observations
    descriptors: Tensor  # [M, D] float32, L2-normalised mean over observations
    lengths: np.ndarray  # [M] int64, observations per point
    errors: np.ndarray  # [M] float64, mean reprojection error in pixels
    observed_track: np.ndarray  # [K] int64, row of `positions`
    observed_view: np.ndarray  # [K] int64, index into the views
    observed_keypoint: np.ndarray  # [K] int64, index into that view's keypoints

    def __len__(self) -> int:
        return len(self.positions)


def triangulate(
    views: Sequence[View],
    keypoints: Sequence[Keypoints],
    device: torch.device | str = "cpu",
    quiet: bool = True,
) -> Tracks:
    """Tracks of `keypoints` (one entry per view) over views with known poses; empty where nothing matches.

    Descriptors are compared on `device`; keypoints and tracks are on the CPU, where COLMAP works. Few entries
    of `keypoints` are held at a time: it may read them from a cache on disk. A progress bar is shown unless
    `quiet`.
    """
    with tempfile.TemporaryDirectory() as folder:
        reconstruction = fixed_reconstruction(views, keypoints)
        database_path = Path(folder) / "database.db"
        pairs = _verified_matches(views, keypoints, torch.device(device), quiet)
        write_database(database_path, reconstruction, pairs)
        output = Path(folder) / "points"
        output.mkdir()
        pipeline = pipeline_options(pixel_scale(views))
        if len(views) > 1:  # of one view pycolmap raises an error
            with quiet_pycolmap(), stopwatch("triangulating", quiet):
                reconstruction = pycolmap.triangulate_points(
                    reconstruction, database_path, folder, output, options=pipeline
                )
    return _collect(reconstruction, views, keypoints)


def select_pairs(views: Sequence[View], neighbours: int = _NEIGHBOURS) -> list[tuple[int, int]]:
    """Pairs (a, b), a < b, of each view and its `neighbours`: views near it that look in the same direction.

    Distance is measured in units of the cameras' median distance from their centroid, angle in units of 45
    degrees, so that a room and a street are treated alike.
    """
    poses = torch.stack([view.cam_from_world for view in views])
    centers, axes = se3.camera_center(poses).numpy(), poses[:, 2, :3].numpy()
    spread = max(float(np.median(np.linalg.norm(centers - centers.mean(0), axis=1))), 1e-9)
    pairs = set()
    for i in range(len(views)):
        angles = np.degrees(np.arccos(np.clip(axes @ axes[i], -1, 1)))
        remoteness = np.linalg.norm(centers - centers[i], axis=1) / spread + angles / 45
        remoteness[angles > _MAX_VIEW_ANGLE_DEG] = np.inf
        remoteness[i] = np.inf
        nearest = np.argsort(remoteness, kind="stable")[:neighbours]
        pairs |= {(min(i, j), max(i, j)) for j in nearest.tolist() if np.isfinite(remoteness[j])}
    return sorted(pairs)


def epipolar_distances(a: View, b: View, xy_a: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
    """The larger of both distances [K] in pixels between points [K, 2] and the other's epipolar line.

    x_b^T F x_a = 0 with F = K_b^-T [t]x R K_a^-1 (Hartley & Zisserman, eq. 9.12).
    """
    b_from_a = b.cam_from_world @ se3.inverse(a.cam_from_world)
    essential = se3.hat(b_from_a[:3, 3]) @ b_from_a[:3, :3]
    inverse_a, inverse_b = a.camera.matrix().inverse(), b.camera.matrix().inverse()
    fundamental = (inverse_b.T @ essential @ inverse_a).numpy()
    homogeneous_a = np.column_stack([xy_a, np.ones(len(xy_a))])
    homogeneous_b = np.column_stack([xy_b, np.ones(len(xy_b))])
    lines_b, lines_a = homogeneous_a @ fundamental.T, homogeneous_b @ fundamental
    residual = np.abs((homogeneous_b * lines_b).sum(1))
    norms = np.minimum(np.linalg.norm(lines_a[:, :2], axis=1), np.linalg.norm(lines_b[:, :2], axis=1))
    return residual / np.maximum(norms, 1e-12)


def _verified_matches(
    views: Sequence[View], keypoints: Sequence[Keypoints], device: torch.device, quiet: bool
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(a, b, matches [K, 2] of keypoint indices) for every pair with enough matches that fit the poses."""
    selected = select_pairs(views)
    for a, b in progress(selected, len(selected), "matching", quiet):
        of_a, of_b = keypoints[a], keypoints[b]
        matches = match_keypoints(of_a, of_b, device)
        distances = epipolar_distances(views[a], views[b], *matched_pixels(of_a, of_b, matches))
        keep = distances < MAX_EPIPOLAR_PX * pixel_scale([views[a], views[b]])
        if keep.sum() >= _MIN_MATCHES:
            yield a, b, matches[keep]


def match_keypoints(a: Keypoints, b: Keypoints, device: torch.device | str = "cpu") -> np.ndarray:
    """Indices [K, 2] uint32 of keypoints that are each other's nearest, compared on `device`."""
    pairs = mutual_nearest(a.descriptors.to(device), b.descriptors.to(device), MIN_SIMILARITY)
    return torch.stack([pairs.index_a, pairs.index_b], 1).cpu().numpy().astype(np.uint32)


def matched_pixels(a: Keypoints, b: Keypoints, matches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels [K, 2] float64 of matches [K, 2], in either image."""
    return a.xy.double().numpy()[matches[:, 0]], b.xy.double().numpy()[matches[:, 1]]


def pixel_scale(views: Sequence[View]) -> float:
    """The factor of pixel thresholds for the size of these views."""
    sides = [max(view.camera.width, view.camera.height) for view in views]
    return max(1.0, float(np.median(sides)) / _REFERENCE_SIDE)


def fixed_reconstruction(views: Sequence[View], keypoints: Sequence[Keypoints]) -> pycolmap.Reconstruction:
    """The views with their poses and keypoints, without points; image and camera ids count from 1.

    The ids are the names, too: COLMAP takes no names that are not UTF-8.
    """
    reconstruction = pycolmap.Reconstruction()
    cameras = dict.fromkeys(view.camera for view in views)  # the different ones, in order of appearance
    numbers = {camera: number for number, camera in enumerate(cameras, start=1)}
    for camera, number in numbers.items():
        params = [camera.fx, camera.fy, camera.cx, camera.cy]
        size = {"width": camera.width, "height": camera.height}
        pinhole = pycolmap.Camera(model="PINHOLE", params=params, camera_id=number, **size)
        reconstruction.add_camera_with_trivial_rig(pinhole)
    for number, (view, found) in enumerate(zip(views, keypoints), start=1):
        image = pycolmap.Image(name=f"{number}", camera_id=numbers[view.camera], image_id=number)
        points = [pycolmap.Point2D(pixel) for pixel in found.xy.numpy().astype(np.float64)]
        image.points2D = pycolmap.Point2DList(points)
        pose = view.cam_from_world.numpy()
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:3, :3]), pose[:3, 3])
        reconstruction.add_image_with_trivial_frame(image, rigid)
    return reconstruction


def write_database(
    path: Path, reconstruction: pycolmap.Reconstruction, pairs: Iterable[tuple[int, int, np.ndarray]]
) -> None:
    """The database of a `fixed_reconstruction` and of pairs of its views, with their matches [K, 2]."""
    with pycolmap.Database.open(path) as database:
        for camera in reconstruction.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for number, image in reconstruction.images.items():
            plain = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=number)
            database.write_image(plain, use_image_id=True)
            pixels = np.array([point.xy for point in image.points2D], np.float32).reshape(-1, 2)
            database.write_keypoints(number, pixels)
        for a, b, matches in pairs:
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = matches
            database.write_matches(a + 1, b + 1, matches)
            database.write_two_view_geometry(a + 1, b + 1, geometry)


def pipeline_options(scale: float) -> pycolmap.IncrementalPipelineOptions:
    pipeline = pycolmap.IncrementalPipelineOptions()
    pipeline.extract_colors = False  # read from the views: they may be undistorted on the fly
    pipeline.random_seed = pipeline.triangulation.random_seed = pipeline.mapper.random_seed = 0
    pipeline.min_num_matches = _MIN_MATCHES
    pipeline.ba_global_max_num_iterations = _MAX_ITERATIONS
    pipeline.mapper.filter_max_reproj_error = _MAX_ERROR_PX * scale
    pipeline.mapper.filter_min_tri_angle = _MIN_ANGLE_DEG
    pipeline.triangulation.merge_max_reproj_error = _MAX_ERROR_PX * scale
    pipeline.triangulation.complete_max_reproj_error = _MAX_ERROR_PX * scale
    pipeline.triangulation.min_angle = _MIN_ANGLE_DEG
    return pipeline


def _collect(
    reconstruction: pycolmap.Reconstruction,
    views: Sequence[View],
    keypoints: Sequence[Keypoints],
) -> Tracks:
    """Tracks of enough observations, in the order of pycolmap's point ids."""
    points = [point for _, point in sorted(reconstruction.points3D.items())]
    points = [point for point in points if point.track.length() >= MIN_LENGTH]
    observations = [
        (row, element.image_id - 1, element.point2D_idx)
        for row, point in enumerate(points)
        for element in point.track.elements
    ]
    track, view, keypoint = np.array(observations, np.int64).reshape(-1, 3).T
    descriptors, colors = _track_means(views, keypoints, track, view, keypoint, len(points))
    return Tracks(
        positions=np.array([point.xyz for point in points]).reshape(-1, 3),
        colors=colors,
        descriptors=descriptors,
        lengths=np.bincount(track, minlength=len(points)),
        errors=np.array([point.error for point in points]),
        observed_track=track,
        observed_view=view,
        observed_keypoint=keypoint,
    )


def _track_means(
    views: Sequence[View],
    keypoints: Sequence[Keypoints],
    track: np.ndarray,
    view: np.ndarray,
    keypoint: np.ndarray,
    count: int,
) -> tuple[Tensor, np.ndarray]:
    """Mean descriptor [M, D] (L2-normalised) and colour [M, 3] uint8 of each track's observations."""
    descriptors = torch.zeros(count, keypoints[0].descriptors.shape[1])
    colors = np.zeros((count, 3))
    for number in np.unique(view):
        rows, index = track[view == number], keypoint[view == number]
        descriptors.index_add_(
            0, torch.from_numpy(rows), keypoints[number].descriptors[torch.from_numpy(index)]
        )
        image = views[number].load_image()
        column, row = keypoints[number].xy.numpy()[index].astype(np.int64).T  # pixel k covers [k, k + 1)
        np.add.at(colors, rows, image[row, column])
    lengths = np.maximum(np.bincount(track, minlength=count), 1)
    return F.normalize(descriptors, dim=1), np.round(colors / lengths[:, None]).astype(np.uint8)


@contextmanager
def quiet_pycolmap() -> Iterator[None]:
    """Keep pycolmap's log below errors off the terminal."""
    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level
