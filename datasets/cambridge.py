"""Cambridge Landmarks (Kendall et al., ICCV 2015): from the archives to the train/ and test/ layout."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.download import download
from gsplatloc.datasets.layout import Frame, building, is_complete, write_frame, write_png
from gsplatloc.datasets.upstream import CAMBRIDGE, CAMBRIDGE_ARCHIVES, CambridgeName
from gsplatloc.datasets.visual_sfm import Reconstruction, read_nvm
from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.scene.images import decode_rgb, resize_rgb
from gsplatloc.scene.readers.point_cloud import write_points
from gsplatloc.utils import se3
from gsplatloc.utils.archives import extract
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import decoding
from gsplatloc.utils.parallel import for_each

SHORT_SIDE = 480  # pixels of the images as written
POSE_LIMIT = 10_000.0  # metres from the origin; farther poses are failures of the reconstruction
POINT_LIMIT = 1_000.0  # metres from the origin; farther points are failures, too
_HEADER_LINES = 3  # of dataset_train.txt and dataset_test.txt


@dataclass(frozen=True)
class DatasetLine:
    """A line of dataset_train.txt or dataset_test.txt."""

    name: str  # seq1/frame00001.png
    world_from_cam: np.ndarray  # [4, 4] metres


def setup_scene(options: SetupOptions, scene: CambridgeName) -> Path:
    """Download and lay out one landmark unless it is complete; returns the scene's folder."""
    target = options.output / f"Cambridge_{scene}"
    settings = {"short_side": str(SHORT_SIDE)}
    if is_complete(target, settings):
        return target
    archive_path = CAMBRIDGE_ARCHIVES[scene]
    address = CAMBRIDGE.address(archive_path, options.mirror_address)
    archive = download(address, options.archive_path(CAMBRIDGE, f"{scene}.zip"))
    with building(target, settings) as (root, scratch):
        extract(archive, scratch, lambda name: not name.lower().endswith((".mp4", ".mov", ".avi")))
        folder = scratch / scene
        reconstruction = read_nvm(folder / "reconstruction.nvm")
        for split in ("train", "test"):
            _write_split(folder, root, split, reconstruction)
        write_points(root / "points3D.ply", _nearby(reconstruction.points, scene))
    options.release(archive)
    return target


def read_dataset_file(path: Path) -> list[DatasetLine]:
    """`name X Y Z W P Q R` after a header: camera centre, and quaternion wxyz of cam_from_world."""
    with decoding("lines 'name X Y Z W P Q R'", path, "delete the archive"):
        lines = path.read_text(encoding="utf-8").splitlines()[_HEADER_LINES:]
        return [_parse_line(line) for line in lines if line.strip()]


def _parse_line(line: str) -> DatasetLine:
    name, *words = line.split()
    if len(words) != 7:
        raise ValueError(f"{line!r}")
    numbers = torch.tensor([float(word) for word in words], dtype=torch.float64)
    if not (bool(numbers.isfinite().all()) and float(numbers[3:].norm()) > 1e-6):
        raise ValueError(f"{line!r}, no finite pose")
    rotation = se3.rotation_from_quaternion(numbers[3:])  # cam_from_world
    return DatasetLine(name, se3.from_rotation_translation(rotation.T, numbers[:3]).numpy())


def _write_split(folder: Path, root: Path, split: str, reconstruction: Reconstruction) -> None:
    lines = read_dataset_file(folder / f"dataset_{split}.txt")
    near = [line for line in lines if np.abs(line.world_from_cam[:3, 3]).max() <= POSE_LIMIT]
    usable = [line for line in near if (folder / line.name).is_file()]
    for_each(lambda line: _write_image(folder, root, split, line, reconstruction), usable, f"{split} images")
    for count, why in (
        (len(lines) - len(near), f"have poses beyond {POSE_LIMIT:.0f} m"),
        (len(near) - len(usable), "are not in the archive"),
    ):
        if count:
            log(f"{folder.name}: left out {count} {split} images that {why}")


def _write_image(
    folder: Path, root: Path, split: str, line: DatasetLine, reconstruction: Reconstruction
) -> None:
    """Write one image with its short side at `SHORT_SIDE`, its pose, and its focal length at that size."""
    image = decode_rgb(folder / line.name)
    height, width = image.shape[:2]
    scale = SHORT_SIDE / min(width, height)
    stem = line.name.removesuffix(".png").replace("/", "_")
    focal_length = reconstruction.focal_length(line.name) * scale
    names = f"{stem}.png", f"{stem}.txt", f"{stem}.txt"
    path = write_frame(root, Frame(split, *names, line.world_from_cam, focal_length))
    small = resize_rgb(image, round(width * scale), round(height * scale))
    write_png(path, np.ascontiguousarray(small[..., ::-1]))


def _nearby(points: SparsePoints, scene: str) -> SparsePoints:
    near = np.abs(points.positions).max(1, initial=0) <= POINT_LIMIT
    if not near.all():
        log(f"{scene}: left out {np.count_nonzero(~near)} points beyond {POINT_LIMIT:.0f} m")
    return SparsePoints(points.positions[near], points.colors[near])
