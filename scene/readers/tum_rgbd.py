"""Layout 4: the TUM RGB-D benchmark. `rgb.txt` and `depth.txt` list images with timestamps, `groundtruth.txt`
poses; images, depth maps and poses are associated by time. Sequences of one camera have no `depth.txt`.

Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems" (IROS 2012). `calibration.txt` holds fx
fy cx cy [k1 k2 p1 p2 [k3]] in pixels, counted from the centre of the first pixel, as everywhere in that
benchmark. The benchmark's own sequences do not have it: their camera follows from the folder's name.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gsplatloc.scene.cameras import PoseConvention, Scene, View
from gsplatloc.scene.images import CameraModel, image_size
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.image_finder import file_on_disk
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.poses import read_numbers
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.views import make_view, split_test_views
from gsplatloc.scene.trajectory import (
    Trajectory,
    associate,
    finite_number,
    in_seconds,
    read_stamped_lines,
    read_tum_trajectory,
)
from gsplatloc.utils.errors import GSplatLocError, quoted

TOLERANCE = 0.02  # seconds between associated timestamps, as in the benchmark's associate.py
UNITS_PER_METRE = 5000.0  # 16-bit depth values per metre
TRUTH_FILE = "groundtruth.txt"
# fx fy cx cy k1 k2 p1 p2 k3, from the benchmark's page on file formats; freiburg3 was rectified beforehand.
_KNOWN_CAMERAS = {
    "1": (517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "2": (520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "3": (535.4, 539.2, 320.1, 247.6),
}


@READERS.register(
    "tum_rgbd",
    help="rgb.txt with groundtruth.txt (TUM RGB-D)",
    priority=20,
)
class TumRgbdReader:
    """Reads layout 4. Frames without depth or pose within `TOLERANCE` are skipped and counted."""

    def matches(self, path: Path) -> bool:
        others = (path / "depth.txt", path / TRUTH_FILE)
        return (path / "rgb.txt").is_file() and any(other.is_file() for other in others)

    def read(self, path: Path, options: SceneOptions) -> Scene:
        truth = read_truth(path)
        if truth is None:
            raise GSplatLocError(
                f"expected {TRUTH_FILE} in {path}, found none: estimate a trajectory with"
                " gsplatloc track and copy it there"
            )
        tally = Tally()
        views = read_frames(path, options, tally)
        stamps = np.array([view.timestamp for view in views])
        kept, partners = associate(stamps, truth.timestamps, TOLERANCE)
        tally.leave_out(f"no pose within {TOLERANCE} s", len(views) - len(kept))
        if not len(kept):
            raise GSplatLocError(
                f"expected poses at the times of the images, {stamps[0]:.6f} to {stamps[-1]:.6f}, in"
                f" {path / TRUTH_FILE}, found {truth.timestamps[0]:.6f} to {truth.timestamps[-1]:.6f}:"
                " copy the file of this sequence"
            )
        posed = [views[i].with_pose(truth.cam_from_world[j]) for i, j in zip(kept, partners)]
        convention = PoseConvention(quaternion="xyzw")
        return tally.scene(path, *split_test_views(posed, options), convention=convention)


def read_truth(path: Path) -> Trajectory | None:
    """The ground-truth trajectory of a sequence; None if it has none."""
    file = path / TRUTH_FILE
    return read_tum_trajectory(file) if file.is_file() else None


def read_frames(path: Path, options: SceneOptions, tally: Tally) -> list[View]:
    """The images, in order of time, without poses (all are the identity).

    Those without depth are left out, unless the sequence has none at all.
    """
    images = _read_list(path / "rgb.txt")
    tally.found += len(images)
    views: list[View] = []
    camera_model = None
    pose, rate = torch.eye(4, dtype=torch.float64), UNITS_PER_METRE
    for stamp, name, depth in _with_depth(path, images, tally):
        image = file_on_disk(path / name)
        depth_file = None if depth is None else file_on_disk(path / depth)
        if image is None or (depth_file is None and depth is not None):
            list_name, missing = ("rgb.txt", name) if image is None else ("depth.txt", depth)
            tally.leave_out(f"listed in {list_name} but not on disk", example=missing)
            continue
        with tally.damaged(image, options):
            camera_model = camera_model or read_calibration(path, image)
            view = make_view(name, image, camera_model, pose, options, depth_file, units_per_metre=rate)
            views.append(replace(view, timestamp=stamp))
    if not views:
        raise tally.nothing_left(f"images of rgb.txt, and their depth, in {path}", "copy them there")
    return views


def _with_depth(
    path: Path, images: list[tuple[float, str]], tally: Tally
) -> list[tuple[float, str, str | None]]:
    """(seconds, image, depth) of the images that have depth; of all, without, if there is no depth.txt."""
    if not (path / "depth.txt").is_file():
        return [(stamp, name, None) for stamp, name in images]
    depths = _read_list(path / "depth.txt")
    image_stamps, depth_stamps = (np.array([stamp for stamp, _ in files]) for files in (images, depths))
    kept, partners = associate(image_stamps, depth_stamps, TOLERANCE)
    tally.leave_out(f"no depth within {TOLERANCE} s", len(images) - len(kept))
    if not len(kept):
        raise GSplatLocError(
            f"expected images and depth at the same times in {path}, found no pair within {TOLERANCE} s:"
            " correct rgb.txt and depth.txt"
        )
    return [(*images[i], depths[j][1]) for i, j in zip(kept.tolist(), partners.tolist())]


def read_calibration(path: Path, image: Path) -> CameraModel:
    """The camera model of a sequence, from its calibration.txt or from the benchmark's own cameras."""
    file = path / "calibration.txt"
    numbers = read_numbers(file) if file.is_file() else np.array(_known_camera(path), np.float64)
    if numbers.size not in (4, 8, 9) or not (np.isfinite(numbers).all() and (numbers[:2] > 0).all()):
        raise GSplatLocError(
            f"expected `fx fy cx cy [k1 k2 p1 p2 [k3]]` in {file}, found {numbers.size} numbers:"
            " write them in pixels"
        )
    numbers[2:4] += 0.5  # from the centre of the first pixel to the corner of the image
    width, height = image_size(image)
    distortion = np.zeros(8)  # of COLMAP's model: k1 k2 p1 p2 k3 k4 k5 k6
    distortion[: numbers.size - 4] = numbers[4:]
    if not distortion.any():
        return CameraModel("PINHOLE", width, height, tuple(numbers[:4].tolist()))
    return CameraModel("FULL_OPENCV", width, height, (*numbers[:4].tolist(), *distortion.tolist()))


def _known_camera(path: Path) -> tuple[float, ...]:
    match = re.search(r"(?:freiburg|fr)([123])(?!\d)", path.resolve().name)
    if not match:
        raise GSplatLocError(
            f"expected calibration.txt (fx fy cx cy in pixels) in {path}, found none, and no freiburg1, 2"
            " or 3 in the folder's name: write the file"
        )
    return _KNOWN_CAMERAS[match[1]]


def _read_list(path: Path) -> list[tuple[float, str]]:
    """(seconds, file) of every line of rgb.txt or depth.txt, in order of time."""
    files = []
    for words, where in read_stamped_lines(path):
        try:
            stamp, *name = words
            if not name:
                raise ValueError
            files.append((finite_number(stamp), " ".join(name).replace("\\", "/").strip('"')))
        except ValueError:
            found = quoted(" ".join(words))
            raise GSplatLocError(
                f"expected `timestamp filename` in {where}, found '{found}': correct the line"
            ) from None
    seconds = in_seconds(np.array([stamp for stamp, _ in files]))
    return sorted(zip(seconds.tolist(), (name for _, name in files)))
