"""A COLMAP database of cameras, keypoints and verified matches, which a run that was stopped resumes."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import poselib

from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping.posing.pairs import Pair
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import progress
from gsplatloc.utils.io import utf8_path

MatchKeypoints = Callable[[int, int], np.ndarray]  # images -> matches [M, 2] uint32 of their keypoints

_MIN_MATCHES = 15  # of a pair that share an epipolar geometry; fewer may be wrong matches alone
# The tolerance in pixels is COLMAP's. 50 iterations or more, for PoseLib's 1,000, keep the same matches.
_RANSAC = {"max_epipolar_error": 4.0, "min_iterations": 50, "max_iterations": 1000, "seed": 0}
_FOCAL_FACTOR = 0.85  # of the longer side, without EXIF data: phones and their videos have 0.7 to 1.0


class MatchDatabase:
    """Images are numbered from 0 here, in the order of `names`, and from 1 in the database."""

    def __init__(self, path: Path, names: Sequence[str], cameras: Sequence[pycolmap.Camera]) -> None:
        """`cameras`: one per image; equal objects are shared. Images are written to a new database."""
        self._database = pycolmap.Database.open(path)
        self._cameras = list(cameras)
        self._without_distortion: dict[int, np.ndarray] = {}
        if self._database.num_images() == 0:
            with pycolmap.DatabaseTransaction(self._database):  # a run that is killed leaves all or none
                self._write_images(names)

    def close(self) -> None:
        self._database.close()

    def write_keypoints(self, keypoints: Iterable[Keypoints]) -> None:
        """Write the keypoints of every image, unless they are there."""
        for index, found in enumerate(keypoints):
            if not self._database.exists_keypoints(index + 1):
                self._database.write_keypoints(index + 1, found.xy.numpy().astype(np.float32))

    def match(self, pairs: Sequence[Pair], match: MatchKeypoints, label: str, quiet: bool = False) -> None:
        """Match the pairs that no earlier run matched; keep matches that share an epipolar geometry."""
        new = [(a, b) for a, b in pairs if not self._database.exists_two_view_geometry(a + 1, b + 1)]
        self.match_again(new, match, label, quiet)

    def match_again(
        self, pairs: Sequence[Pair], match: MatchKeypoints, label: str, quiet: bool = False
    ) -> None:
        """Match pairs that have no epipolar geometry so far, by another matcher.

        A pair is verified in a thread of its own while the next one is matched.
        """
        matched: deque[tuple[Pair, np.ndarray, Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="verify") as verifier:
            for pair in progress(pairs, len(pairs), label, quiet):
                matches = match(*pair)
                points = [self._pinhole(image)[matches[:, side]] for side, image in enumerate(pair)]
                matched.append((pair, matches, verifier.submit(_share_epipolar_geometry, *points)))
                while matched and matched[0][2].done():
                    self._write_geometry(*matched.popleft())
            while matched:
                self._write_geometry(*matched.popleft())

    def verified(self) -> list[Pair]:
        """The pairs that share an epipolar geometry."""
        ids, counts = self._database.read_two_view_geometry_num_inliers()
        pairs = [pycolmap.pair_id_to_image_pair(int(pair)) for pair in ids]
        return sorted((a - 1, b - 1) for (a, b), count in zip(pairs, counts) if count >= _MIN_MATCHES)

    def _write_images(self, names: Sequence[str]) -> None:
        numbers: dict[int, int] = {}
        for index, (name, camera) in enumerate(zip(names, self._cameras), start=1):
            if id(camera) not in numbers:
                numbers[id(camera)] = self._database.write_camera(camera)
            image = pycolmap.Image(name=name, camera_id=numbers[id(camera)], image_id=index)
            self._database.write_image(image, use_image_id=True)

    def _pinhole(self, image: int) -> np.ndarray:
        """Keypoints [N, 2] in pixels, where a camera without distortion would show them."""
        if image not in self._without_distortion:
            camera = self._cameras[image]
            points = self._database.read_keypoints(image + 1)[:, :2].astype(np.float64)
            rays = np.asarray(camera.cam_from_img(points)) if len(points) else points
            self._without_distortion[image] = camera.mean_focal_length() * rays
        return self._without_distortion[image]

    def _write_geometry(self, pair: Pair, matches: np.ndarray, inliers: Future[np.ndarray]) -> None:
        """Write the geometry of a pair, an empty one where there is none: the pair was compared."""
        a, b = pair[0] + 1, pair[1] + 1
        if self._database.exists_two_view_geometry(a, b):
            self._database.delete_two_view_geometry(a, b)
        geometry = pycolmap.TwoViewGeometry()
        kept = matches[inliers.result()]
        if len(kept) >= _MIN_MATCHES:
            geometry.config = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
            geometry.inlier_matches = kept
        self._database.write_two_view_geometry(a, b, geometry)


def _share_epipolar_geometry(xy_a: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
    """Which matches [M] of points [M, 2] fit one fundamental matrix: focal lengths are guesses so far."""
    if len(xy_a) < _MIN_MATCHES:
        return np.zeros(len(xy_a), bool)
    _, found = poselib.estimate_fundamental(xy_a, xy_b, _RANSAC, {})
    return np.array(found["inliers"], bool)


def cameras_by_size(paths: Iterable[Path], model: str) -> list[pycolmap.Camera]:
    """One camera per image, shared by images of the same size and the same focal length in EXIF data.

    The focal length of EXIF data, or a guess from the size, is where bundle adjustment starts.
    """
    options = pycolmap.ImageReaderOptions(camera_model=model, default_focal_length_factor=_FOCAL_FACTOR)
    known: dict[tuple[int, int, float], pycolmap.Camera] = {}
    cameras = []
    for path in paths:
        with utf8_path(path) as readable:
            camera = pycolmap.infer_camera_from_image(readable, options)
        key = camera.width, camera.height, round(camera.mean_focal_length())
        cameras.append(known.setdefault(key, camera))
    return cameras
