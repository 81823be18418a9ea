"""Layout 1: `train/` and `test/` with `rgb/`, `poses/`, `calibration/` and maybe `depth/`, paired by name.

`gsplatloc setup` writes this layout, as ACE does: `rgb/X.color.png` belongs to `poses/X.pose.txt`
(camera-to-world 4x4), `calibration/X.calibration.txt` (one focal length in pixels, or K) and
`depth/X.depth.png` (16-bit mm); `rgb/X.png` and `poses/X.txt` are read as well. Calibrations are for the
stored image. A sparse point cloud may lie beside the splits, in `points3D.ply`.
"""

import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np

from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.image_files import image_files, image_suffixes, unread_files
from gsplatloc.scene.images import CameraModel, image_size
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.point_cloud import read_points
from gsplatloc.scene.readers.poses import read_numbers, read_pose
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.views import UNREAD_DEPTH, make_view
from gsplatloc.utils.errors import GSplatLocError

POINTS_FILE = "points3D.ply"
_SPLITS = ("train", "test")
_SKEW = 1e-3  # relative to fx: it moves pixels by a thousandth of their distance to the row cy
_LAST_ROW = 1e-6  # largest difference of the last row from 0 0 1


@READERS.register(
    "posed_folders",
    help="train/{rgb,poses,calibration}, test/ likewise (7-Scenes)",
    # First: a scene that a set-up command made may hold a COLMAP model beside its splits.
    priority=50,
)
class PosedFoldersReader:
    """Reads layout 1. The folders are the split, so that `SceneOptions.eval` is ignored."""

    def matches(self, path: Path) -> bool:
        return (path / "train" / "poses").is_dir()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        tally = Tally()
        train, test = (_read_split(path / split, options, tally) for split in _SPLITS)
        if not train:
            raise tally.nothing_left(f"images with poses in {path / 'train'}", "prepare the scene again")
        train, test = _with_unique_names(train, test)
        points_path = path / POINTS_FILE
        points = read_points(points_path) if points_path.is_file() else None
        return tally.scene(path, train, test, points)


def _read_split(folder: Path, options: SceneOptions, tally: Tally) -> list[View]:
    if not os.path.isdir(folder):
        return []
    image_folder = folder / (options.images or "rgb")
    images = _by_stem(image_folder, ".color", image_suffixes(), tally)
    if unread := unread_files(image_folder):
        tally.note(f"left out {unread}")
    poses = _by_stem(folder / "poses", ".pose", {".txt"}, tally)
    calibrations = _by_stem(folder / "calibration", ".calibration", {".txt"}, tally)
    depth_folder = folder / "depth"
    depths = (
        _by_stem(depth_folder, ".depth", {".png", ".npy", ".tif", ".tiff"}, tally)
        if depth_folder.is_dir()
        else {}
    )
    if depth_folder.is_dir() and not depths and (others := image_files(depth_folder)):
        tally.note(f"{len(others)} files in {depth_folder} are no depth that is read, as {others[0].name}")
    views = []
    tally.found += len(images)
    if nested := [image for image in image_files(image_folder) if image.parent != image_folder]:
        tally.found += len(nested)
        example = nested[0].relative_to(image_folder).as_posix()
        tally.leave_out(f"in folders within {image_folder}", len(nested), example)
    if alone := sorted(poses.keys() - images.keys()):
        tally.note(f"{len(alone)} poses in {folder / 'poses'} have no image, for example {alone[0]}")
    if depths and (bare := sorted(images.keys() - depths.keys())):
        tally.note(f"{len(bare)} images have no depth in {depth_folder}, for example {bare[0]}")
    for stem, image in sorted(images.items()):
        pose_path = _partner(poses, stem, image, folder / "poses")
        calibration_path = _partner(calibrations, stem, image, folder / "calibration")
        cam_from_world = read_pose(pose_path)
        if cam_from_world is None:
            tally.leave_out("their poses are not finite")
            continue
        with tally.damaged(image, options):
            camera_model = read_calibration(calibration_path, image)
            views.append(
                make_view(image.name, image, camera_model, cam_from_world, options, depths.get(stem))
            )
    return views


def read_calibration(path: Path, image_path: Path) -> CameraModel:
    """One focal length in pixels (principal point at the centre) or a 3x3 K, for the stored image."""
    numbers = read_numbers(path)
    width, height = image_size(image_path)
    if numbers.size == 1:
        matrix = np.array([[numbers[0], 0, width / 2], [0, numbers[0], height / 2], [0, 0, 1]])
    elif numbers.size == 9:
        matrix = numbers.reshape(3, 3)
    else:
        raise GSplatLocError(
            f"expected one focal length or a 3x3 matrix in {path}, found {numbers.size} numbers: rewrite it"
        )
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise GSplatLocError(f"expected positive focal lengths in {path}, found {numbers}: rewrite it")
    pinhole = np.array([[matrix[0, 0], 0, matrix[0, 2]], [0, matrix[1, 1], matrix[1, 2]], [0, 0, 1]])
    difference = np.abs(matrix - pinhole)
    if difference[:2].max() > _SKEW * matrix[0, 0] or difference[2].max() > _LAST_ROW:
        raise GSplatLocError(
            f"expected a matrix `fx 0 cx 0 fy cy 0 0 1` in {path}, found {numbers}: rewrite it"
        )
    return CameraModel.pinhole(width, height, matrix)


def _by_stem(folder: Path, infix: str, suffixes: set[str] | frozenset[str], tally: Tally) -> dict[str, Path]:
    """Files by the name that pairs them, X for `X.color.png` and for `X.png`; of several the first."""
    if not os.path.isdir(folder):
        raise GSplatLocError(f"expected a folder {folder}, found none: prepare the scene again")
    found: dict[str, Path] = {}
    twice: list[str] = []
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))  # of macOS: ._a.png
    for file in (file for file in files if file.suffix.lower() in suffixes):
        stem = unicodedata.normalize("NFC", file.stem)  # macOS decomposes accents
        if stem.lower().endswith(infix):
            stem = stem[: -len(infix)]
        taken = found.setdefault(stem, file)
        if taken is not file:
            twice.append(f"{file} is not used, because {taken.name} has the same name")
    if twice:
        tally.note(twice[0] + (f", nor are {len(twice) - 1} more of this folder" if twice[1:] else ""))
    if others := [file.name for file in files if file.suffix.lower() in UNREAD_DEPTH]:
        tally.note(f"{len(others)} files in {folder} are of a kind that is not read, as {others[0]}")
    return found


def _partner(files: dict[str, Path], stem: str, image: Path, folder: Path) -> Path:
    if stem not in files:
        raise GSplatLocError(
            f"expected a file named after {stem} in {folder} to go with {image.name}, found none:"
            " add it or remove the image"
        )
    return files[stem]


def _with_unique_names(train: list[View], test: list[View]) -> tuple[list[View], list[View]]:
    """File names; if one is in both splits, every name gets the name of its split as a prefix."""
    if {view.name for view in train}.isdisjoint(view.name for view in test):
        return train, test
    renamed = [
        [replace(view, name=f"{split}/{view.name}") for view in views]
        for split, views in zip(_SPLITS, (train, test))
    ]
    return renamed[0], renamed[1]
