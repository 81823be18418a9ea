"""Poses of other estimators: file formats, detected from the content of a file.

| format | lines or files | names |
| --- | --- | --- |
| pgt | `name qw qx qy qz tx ty tz [focal]`, cam_from_world (7-Scenes pseudo ground truth) | images |
| tum | `timestamp tx ty tz qx qy qz qw`, camera in the world (TUM RGB-D) | timestamps or frame numbers |
| colmap | a folder with `images.bin` or `images.txt` and its cameras | images, with intrinsics |
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from gsplatloc.localization.io import PoseFormat
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.scene.colmap_model import IMAGE_FILES, read_model
from gsplatloc.scene.images import CameraModel
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.trajectory import (
    Trajectory,
    associate,
    in_seconds,
    names_columns,
    quaternion_order,
    read_tum_trajectory,
)
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import number_words, read_text

_STAMP_TOLERANCE = 0.02  # seconds between an image and its pose (TUM's own association)
_UNIT_TOLERANCE = 0.01  # of a quaternion's norm; files have few decimals
_CHECKED_LINES = 20  # whose quaternions are checked to detect a format
_IMAGE_SUFFIX = re.compile(r"(\.color|\.rgb)?\.\w{2,4}$")


@dataclass(frozen=True)
class ExternalPose:
    """The pose of an image by another estimator."""

    cam_from_world: Tensor  # [4, 4] float64
    focal: float | None = None  # pixels, if the file states it
    camera_model: CameraModel | None = None  # intrinsics and distortion, if the file states them
    timestamp: float | None = None  # seconds, likewise


def read_pose_file(
    path: Path | str,
    names: Sequence[str],
    pose_format: PoseFormat = "auto",
    stamps: Sequence[float | None] | None = None,
) -> dict[str, ExternalPose]:
    """The poses in a file (or COLMAP folder) of the images called `names`; images without a pose are absent.

    Names match if they are equal apart from suffix and slashes, or apart from folders if only one name has
    folders. Timestamps match within 20 ms: those in `stamps`, seconds, else the numbers in the images' names.
    Raises `GSplatLocError` for an unknown format, and if no pose belongs to one of the images.
    """
    path = Path(path)
    found_format = detect_format(path) if pose_format == "auto" else pose_format
    if found_format == "tum":
        known = stamps or [None] * len(names)
        numbers = [image_number(name) if time is None else time for name, time in zip(names, known)]
        return _of_numbered_images(read_tum_trajectory(path), names, np.array(numbers), path)
    poses = _read_colmap(path) if found_format == "colmap" else _read_pgt(path)
    return _of_named_images(poses, names, path)


def detect_format(path: Path) -> PoseFormat:
    """The format of a file or folder of poses, from its content; raises `GSplatLocError` if it is unknown."""
    if _colmap_folder(path) is not None:
        return "colmap"
    lines = _first_lines(path)
    named = [line.split() for line in lines]  # there may be commas in names
    rows = [number_words(line) for line in lines]
    possible: list[PoseFormat] = []
    if named and all(len(row) >= 8 and _unit(row[1:5]) for row in named):
        possible.append("pgt")
    more = quaternion_order(path) is not None  # columns, such as velocities, in a table that names them
    if rows and all(_is_tum(row, more) for row in rows):
        possible.append("tum")
    if len(possible) != 1:
        raise GSplatLocError(
            f"expected poses in {path}: pgt `name qw qx qy qz tx ty tz` from world to camera, tum `timestamp"
            " tx ty tz qx qy qz qw` from camera to world, or a COLMAP model's folder, found"
            f" {' or '.join(possible) or 'neither'}: convert them, or see --format"
        )
    return possible[0]


def _is_tum(row: Sequence[str], more: bool) -> bool:
    """Whether a row has the columns of TUM's format, or `more` than these."""
    wide = len(row) >= 8 if more else len(row) == 8
    return wide and _unit(row[4:8]) and _number(row[0]) is not None


def _first_lines(path: Path) -> list[str]:
    text = read_text(path, "a pose file", "check --poses")
    kept = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    rows = (line for line in kept if not names_columns(number_words(line)))
    finite = (line for line in rows if all(_finite(word) for word in line.split()[1:]))
    return list(islice(finite, _CHECKED_LINES))


def _finite(word: str) -> bool:
    """Whether a word is no number, or a finite one: failed estimates are in no format."""
    value = _number(word)
    return value is None or math.isfinite(value)


def _unit(words: Sequence[str]) -> bool:
    """True if the words are numbers with unit norm: a quaternion."""
    values = [_number(word) for word in words]
    numbers = [value for value in values if value is not None]
    return len(numbers) == len(values) and abs(math.hypot(*numbers) - 1) < _UNIT_TOLERANCE


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _read_pgt(path: Path) -> dict[str, ExternalPose]:
    return {
        name: ExternalPose(record.cam_from_world, record.focal) for name, record in read_poses(path).items()
    }


def _colmap_folder(path: Path) -> Path | None:
    """The folder of a COLMAP model: its own path, or that of one of its files; None for other paths."""
    folder = path.parent if path.name in IMAGE_FILES else path
    return folder if any((folder / name).is_file() for name in IMAGE_FILES) else None


def _read_colmap(path: Path) -> dict[str, ExternalPose]:
    folder = _colmap_folder(path)
    if folder is None:
        names = " nor ".join(IMAGE_FILES)
        raise GSplatLocError(f"expected a COLMAP model in {path}, found neither {names}: export it again")
    model = read_model(folder)
    poses = {}
    for image in model.images:
        pose = rigid_from_matrix(image.cam_from_world, f"the pose of {image.name} in {path}")
        if pose is not None:
            poses[image.name] = ExternalPose(pose, camera_model=model.camera_models[image.camera_id])
    return poses


def _of_named_images(
    poses: dict[str, ExternalPose], names: Sequence[str], path: Path
) -> dict[str, ExternalPose]:
    plain, last = _groups(poses, _plain), _groups(poses, _last)
    found = {}
    for name in names:
        # The same name in another folder is another image: names match if one has no folder.
        bare = [other for other in last.get(_last(name), []) if "/" not in name or "/" not in other]
        alike = [name] if name in poses else plain.get(_plain(name), bare)
        if len(alike) > 1:
            both = quoted(" and ".join(alike[:2]))
            raise GSplatLocError(f"expected one pose of {name} in {path}, found {both}: remove one")
        if alike:
            found[name] = poses[alike[0]]
    if names and not found:
        listed = quoted(next(iter(poses), "nothing"))
        raise GSplatLocError(
            f"expected poses of images like {names[0]} in {path}, found {listed}: pass poses of this scene"
        )
    return found


def _groups(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _last(name: str) -> str:
    """A name without folders and image suffix."""
    return _IMAGE_SUFFIX.sub("", name).replace("\\", "/").rsplit("/", 1)[-1]


def _plain(name: str) -> str:
    """A name without image suffix, its folders joined by dashes: seq-03/frame-000000.color.png."""
    return _IMAGE_SUFFIX.sub("", name).replace("\\", "/").replace("/", "-")


def _of_numbered_images(
    trajectory: Trajectory, names: Sequence[str], numbers: np.ndarray, path: Path
) -> dict[str, ExternalPose]:
    """Poses by the time or number in an image's name: 1305031102.175304.png, frame-000040.color.png."""
    if len(np.unique(numbers)) < len(numbers):
        raise GSplatLocError(
            f"expected image names with different numbers to pair with the timestamps in {path}, found two"
            " alike: give poses by name"
        )
    image, pose = associate(in_seconds(numbers), trajectory.timestamps, _STAMP_TOLERANCE)
    if len(names) and not len(image):
        raise GSplatLocError(
            f"expected timestamps of images like {names[0]} in {path}, found {trajectory.timestamps[0]:.6f}:"
            " pass the poses of this sequence, or poses by name"
        )
    stamps, poses = trajectory.timestamps, trajectory.cam_from_world
    return {
        names[i]: ExternalPose(poses[j], timestamp=float(stamps[j]))
        for i, j in zip(image.tolist(), pose.tolist())
    }


def image_number(name: str) -> float:
    """The time or frame number in an image's name; raises `GSplatLocError` if there is none."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem = _IMAGE_SUFFIX.sub("", last)
    for whole in (_number(last), _number(stem)):
        if whole is not None:
            return whole
    numbers = re.findall(r"\d+(?:\.\d+)?", stem)
    if not numbers:
        raise GSplatLocError(
            f"expected a time or frame number in the name of image {name}, found none: give poses by name"
        )
    return float(numbers[-1])
