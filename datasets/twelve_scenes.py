"""12-Scenes (Valentin et al., 3DV 2016): from Stanford's archives to the train/ and test/ layout."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.download import download
from gsplatloc.datasets.layout import (
    Frame,
    archived_pose,
    building,
    is_complete,
    microsoft_names,
    write_frame,
)
from gsplatloc.datasets.options import TwelveScenesPoses
from gsplatloc.datasets.pseudo_ground_truth import PosedName, fetch_pseudo_ground_truth
from gsplatloc.datasets.upstream import TWELVE_SCENES
from gsplatloc.utils.archives import extract
from gsplatloc.utils.console import log, progress
from gsplatloc.utils.errors import GSplatLocError, decoding

BUILDINGS = ("apt1", "apt2", "office1", "office2")
_IMAGE_SUFFIX = ".color.jpg"
_INTRINSICS_LINE = 8  # of info.txt, counted from one: the colour camera's 4x4 matrix, row by row


@dataclass(frozen=True)
class FrameRange:
    """The frames of the test sequence, both ends included."""

    first: int
    last: int

    def __contains__(self, frame: int) -> bool:
        return self.first <= frame <= self.last


def setup_scene(options: SetupOptions, scene: str, poses: TwelveScenesPoses) -> Path:
    """Download and lay out one room (`apt1_kitchen`) unless it is complete; returns its folder."""
    prefix = "pgt_" if poses == "pgt" else ""
    target = options.output / f"{prefix}12scenes_{scene}"
    settings = {"poses": poses}
    if is_complete(target, settings):
        return target
    building_name, room = scene.split("_", 1)
    address = TWELVE_SCENES.address(f"{building_name}.zip", options.mirror_address)
    archive = download(address, options.archive_path(TWELVE_SCENES, f"{building_name}.zip"))
    with building(target, settings) as (root, scratch):
        extract(archive, scratch, lambda name: name.startswith(f"{building_name}/{room}/"))
        folder = scratch / building_name / room
        _write_room(folder, root, _pose_source(options, scene, poses, folder))
    return target


def release_archives(options: SetupOptions) -> None:
    """Delete the archives, each of which holds several rooms, unless they are kept."""
    for name in BUILDINGS:
        options.release(options.archive_path(TWELVE_SCENES, f"{name}.zip"))


def read_focal_length(info: Path) -> float:
    """The colour camera's focal length in pixels from info.txt: the mean of fx and fy."""
    with decoding(f"'key = 16 numbers' on line {_INTRINSICS_LINE}", info, "delete the archive"):
        line = info.read_text(encoding="utf-8").splitlines()[_INTRINSICS_LINE - 1]
        matrix = np.array(line.partition("=")[2].split(), dtype=np.float64).reshape(4, 4)
    focal_length = float(matrix[0, 0] + matrix[1, 1]) / 2
    if not 0 < focal_length < 1e6:
        raise GSplatLocError(
            f"expected a focal length in pixels in {info}, found {focal_length}: delete the archive"
        )
    return focal_length


def read_test_range(split: Path) -> FrameRange:
    """The first sequence of split.txt, `sequence0 [frames=350]  [start=0 ; end=349]`: it is the test set."""
    text = split.read_text(encoding="utf-8", errors="replace") if split.is_file() else ""
    found = re.search(r"start\s*=\s*(\d{1,9})\s*;\s*end\s*=\s*(\d{1,9})\b", text)
    if found is None:
        raise GSplatLocError(
            f"expected [start=N ; end=M] in {split}, found {text[:60]!r}: delete the archive"
        )
    return FrameRange(int(found[1]), int(found[2]))


def _pose_source(
    options: SetupOptions, scene: str, poses: TwelveScenesPoses, folder: Path
) -> Callable[[Path], PosedName | None]:
    """A function that returns the pose of an image, or None if the image has none."""
    if poses == "pgt":
        reference = fetch_pseudo_ground_truth(options, "12scenes", scene, "train")
        reference |= fetch_pseudo_ground_truth(options, "12scenes", scene, "test")
        return lambda image: reference.get(f"data/{image.name}")
    focal_length = read_focal_length(folder / "info.txt")
    return lambda image: _original_pose(image, focal_length)


def _original_pose(image: Path, focal_length: float) -> PosedName | None:
    world_from_cam = archived_pose(image, _IMAGE_SUFFIX)
    return None if world_from_cam is None else PosedName(world_from_cam, focal_length)


def _write_room(folder: Path, root: Path, pose_of: Callable[[Path], PosedName | None]) -> None:
    test_frames = read_test_range(folder / "split.txt")
    images = sorted((folder / "data").glob(f"*{_IMAGE_SUFFIX}"))
    if not images:
        raise GSplatLocError(f"expected data/*{_IMAGE_SUFFIX} in {folder}, found none: delete the archive")
    unposed = 0
    for image in progress(images, desc=folder.name):
        posed = pose_of(image)
        if posed is None:
            unposed += 1
            continue
        stem = image.name.removesuffix(_IMAGE_SUFFIX)
        split = "test" if int(stem.rpartition("-")[2]) in test_frames else "train"
        names = microsoft_names(stem, ".jpg")
        frame = Frame(split, *names, world_from_cam=posed.world_from_cam, focal_length=posed.focal_length)
        image.rename(write_frame(root, frame))
    if unposed:
        log(f"{root.parent.name}: left out {unposed} images that have no usable pose")
