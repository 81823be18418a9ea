"""7-Scenes (Shotton et al., CVPR 2013): from Microsoft's nested archives to the train/ and test/ layout."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.depth import register_depth
from gsplatloc.datasets.download import download
from gsplatloc.datasets.layout import (
    Frame,
    archived_pose,
    building,
    is_complete,
    microsoft_names,
    write_frame,
)
from gsplatloc.datasets.options import SevenScenesDepth, SevenScenesPoses
from gsplatloc.datasets.pseudo_ground_truth import PosedName, fetch_pseudo_ground_truth
from gsplatloc.datasets.reference_models import fetch_points
from gsplatloc.datasets.upstream import SEVEN_SCENES
from gsplatloc.scene.readers.point_cloud import write_points
from gsplatloc.utils.archives import extract
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_text
from gsplatloc.utils.parallel import for_each

COLOR_FOCAL_LENGTH = 525.0  # pixels, the Kinect's nominal value
# p_color = COLOR_FROM_DEPTH p_depth, as calibrated for DSAC* (Brachmann and Rother, TPAMI 2021).
COLOR_FROM_DEPTH = np.array(
    [
        [0.99996518, 0.00267651, -0.00790410, -0.02555894],
        [-0.00274093, 0.99996303, -0.00815045, 0.00010110],
        [0.00788199, 0.00817183, 0.99993555, 0.00203183],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
_SPLIT_FILES = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
_IMAGE_SUFFIX = ".color.png"


@dataclass(frozen=True)
class _Job:
    """Folder and options of the frames of one split."""

    root: Path  # the scene under construction
    split: str
    poses: SevenScenesPoses
    depth: SevenScenesDepth
    reference: dict[str, PosedName]  # pseudo ground truth by name; empty for the other poses


def setup_scene(options: SetupOptions, scene: str, poses: SevenScenesPoses, depth: SevenScenesDepth) -> Path:
    """Download and lay out one scene unless it is complete; returns the scene's folder."""
    prefix = "pgt_" if poses == "pgt" else ""
    target = options.output / f"{prefix}7scenes_{scene}"
    settings = {"poses": poses, "depth": depth}
    if is_complete(target, settings):
        return target
    address = SEVEN_SCENES.address(f"{scene}.zip", options.mirror_address)
    archive = download(address, options.archive_path(SEVEN_SCENES, f"{scene}.zip"))
    with building(target, settings) as (root, scratch):
        extract(archive, scratch, lambda name: name.endswith((".zip", ".txt")))
        for split in _SPLIT_FILES:
            pgt = fetch_pseudo_ground_truth(options, "7scenes", scene, split) if poses == "pgt" else {}
            _write_split(scratch / scene, _Job(root, split, poses, depth, pgt))
        points = fetch_points(options, scene, poses, scratch)
        if points is not None:
            write_points(root / "points3D.ply", points)
    options.release(archive)
    return target


def read_split(path: Path) -> list[str]:
    """The sequences of a split file, `sequence1` -> `seq-01`."""
    words = read_text(path, "the archive's", "delete the archive and run again").split()
    numbers = [re.fullmatch(r"sequence(\d+)", word) for word in words]
    if not words or None in numbers:
        raise GSplatLocError(
            f"expected lines like sequence1 in {path}, found {quoted(words[:3])}: delete it and run again"
        )
    return [f"seq-{int(number[1]):02d}" for number in numbers if number]


def _write_split(folder: Path, job: _Job) -> None:
    unlisted = 0
    for sequence in read_split(folder / _SPLIT_FILES[job.split]):
        # The archive holds SCENE/seq-01.zip, which holds seq-01/frame-*: unpacked one by one to save space.
        # Those published also hold a Thumbs.db, which is damaged in some of them.
        extract(folder / f"{sequence}.zip", folder / "unpacked", lambda name: name.endswith((".png", ".txt")))
        (folder / f"{sequence}.zip").unlink()
        images = sorted((folder / "unpacked" / sequence).glob(f"*{_IMAGE_SUFFIX}"))
        written = for_each(lambda image: _write_image(image, job), images, f"{job.split} {sequence}")
        unlisted += written.count(False)
        shutil.rmtree(folder / "unpacked")
    if unlisted:
        log(f"{job.root.name}: left out {unlisted} {job.split} images that have no usable pose")


def _write_image(image: Path, job: _Job) -> bool:
    """Move one frame into the scene; False if it has no pose."""
    sequence, stem = image.parent.name, image.name.removesuffix(_IMAGE_SUFFIX)
    posed = _pose_of(image, f"{sequence}/{image.name}", job)
    if posed is None:
        return False
    names = microsoft_names(f"{sequence}-{stem}", ".png")
    frame = Frame(job.split, *names, world_from_cam=posed.world_from_cam, focal_length=posed.focal_length)
    image.rename(write_frame(job.root, frame))
    if job.depth == "calibrated":
        depth_folder = job.root / job.split / "depth"
        depth_folder.mkdir(exist_ok=True)
        register_depth(
            image.with_name(f"{stem}.depth.png"),
            depth_folder / f"{sequence}-{stem}.depth.png",
            COLOR_FROM_DEPTH,
            COLOR_FOCAL_LENGTH,
        )
    return True


def _pose_of(image: Path, name: str, job: _Job) -> PosedName | None:
    if job.poses == "pgt":
        return job.reference.get(name)
    world_from_cam = archived_pose(image, _IMAGE_SUFFIX)
    if world_from_cam is None:
        return None
    if job.poses == "calibrated":
        world_from_cam = world_from_cam @ np.linalg.inv(COLOR_FROM_DEPTH)
    return PosedName(world_from_cam, COLOR_FOCAL_LENGTH)
