"""A COLMAP database of cameras, keypoints and verified matches, which a run that was stopped resumes."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from gsplatloc.localization.features import Keypoints
from gsplatloc.mapping.posing.pairs import Pair
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.console import progress
from gsplatloc.utils.io import utf8_path

MatchKeypoints = Callable[[int, int], np.ndarray]  # images -> matches [M, 2] uint32 of their keypoints

_MIN_MATCHES = 15  # of a pair that share an epipolar geometry; fewer may be wrong matches alone
_FOCAL_FACTOR = 0.85  # of the longer side, without EXIF data: phones and their videos have 0.7 to 1.0


class MatchDatabase:
    """Images are numbered from 0 here, in the order of `names`, and from 1 in the database."""

    def __init__(self, path: Path, names: Sequence[str], cameras: Sequence[pycolmap.Camera]) -> None:
        """`cameras`: one per image; equal objects are shared. Images are written to a new database."""
        self._database = pycolmap.Database.open(path)
        self._cameras = list(cameras)
        if self._database.num_images() == 0:
            with pycolmap.DatabaseTransaction(self._database):  # a run that is killed leaves all or none
                self._write_images(names)

    def close(self) -> None:
        self._database.close()

    def write_keypoints(self, keypoints: Sequence[Keypoints]) -> None:
        """Write the keypoints of every image, unless they are there."""
        for index, found in enumerate(keypoints):
            if not self._database.exists_keypoints(index + 1):
                self._database.write_keypoints(index + 1, found.xy.numpy().astype(np.float32))

    def match(self, pairs: Sequence[Pair], match: MatchKeypoints, label: str, quiet: bool = False) -> None:
        """Match the pairs that no earlier run matched; keep matches that share an epipolar geometry."""
        for a, b in progress(pairs, len(pairs), label, quiet):
            if not self._database.exists_two_view_geometry(a + 1, b + 1):
                self._write_geometry(a, b, match(a, b))

    def match_again(
        self, pairs: Sequence[Pair], match: MatchKeypoints, label: str, quiet: bool = False
    ) -> None:
        """Match pairs that have no epipolar geometry so far, by another matcher."""
        for a, b in progress(pairs, len(pairs), label, quiet):
            if self._database.exists_two_view_geometry(a + 1, b + 1):
                self._database.delete_two_view_geometry(a + 1, b + 1)
            self._write_geometry(a, b, match(a, b))

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

    def _write_geometry(self, a: int, b: int, matches: np.ndarray) -> None:
        """Write the geometry of a pair, an empty one where there is none: the pair was compared."""
        geometry = pycolmap.TwoViewGeometry()
        if len(matches) >= _MIN_MATCHES:
            options = pycolmap.TwoViewGeometryOptions()
            options.ransac.random_seed = 0
            points = [self._database.read_keypoints(image + 1)[:, :2].astype(np.float64) for image in (a, b)]
            found = pycolmap.estimate_two_view_geometry(
                self._cameras[a], points[0], self._cameras[b], points[1], matches, options
            )
            if len(found.inlier_matches) >= _MIN_MATCHES:
                geometry = found
                self._database.write_matches(a + 1, b + 1, matches)
        self._database.write_two_view_geometry(a + 1, b + 1, geometry)


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
