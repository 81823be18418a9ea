"""Layout 5: the Replica sequences of SLAM papers, rendered by the authors of iMAP, packed by NICE-SLAM's.

`results/frame000000.jpg` with `results/depth000000.png`, `traj.txt` with a 4x4 camera-to-world per line, and
`cam_params.json` in the scene's folder or its parent, which also holds the number of depth units per metre.
The principal point is counted from the centre of the first pixel.
"""

import os
import re
from pathlib import Path

import numpy as np

from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.images import CameraModel
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.poses import read_numbers, rigid_from_matrix
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.views import make_view, split_test_views
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, decoding, quoted
from gsplatloc.utils.io import read_json

PARAMETERS_FILE = "cam_params.json"
_LARGEST_SIDE = 1_000_000  # pixels; more is a damaged file


@READERS.register(
    "replica",
    help="results/frame000000.jpg with traj.txt (Replica)",
    priority=10,
)
class ReplicaReader:
    """Reads layout 5. Frames whose pose is not finite are skipped and counted."""

    def matches(self, path: Path) -> bool:
        return (path / "traj.txt").is_file() and (path / "results").is_dir()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        camera_model, units_per_metre = read_parameters(path)
        folder = path / (options.images or "results")
        images, depths = _numbered(folder, "frame"), _numbered(folder, "depth")
        poses = _read_poses(path / "traj.txt")
        if not images or max(images) >= len(poses):
            raise GSplatLocError(
                f"expected a pose for each image, found {len(images)} images up to number"
                f" {max(images, default=0)} in {folder} and {len(poses)} lines, from number 0, in"
                f" {path / 'traj.txt'}: the files are of different scenes, or the images renumbered"
            )
        tally, views = Tally(), []
        tally.found = len(images)
        for number, image in sorted(images.items()):
            world_from_cam = rigid_from_matrix(poses[number], f"{path / 'traj.txt'}, line {number + 1}")
            if world_from_cam is None:
                tally.leave_out("their poses are not finite")
                continue
            with tally.damaged(image, options):
                views.append(
                    make_view(
                        image.name,
                        image,
                        camera_model,
                        se3.inverse(world_from_cam),
                        options,
                        depths.get(number),
                        units_per_metre=units_per_metre,
                    )
                )
        if not views:
            raise tally.nothing_left(f"images with finite poses in {path / 'traj.txt'}", "restore them")
        return tally.scene(path, *split_test_views(views, options))


def read_parameters(path: Path) -> tuple[CameraModel, float]:
    """The camera model and the depth units per metre, from the scene's folder or its parent."""
    found = [folder / PARAMETERS_FILE for folder in (path, path.resolve().parent)]
    file = next((candidate for candidate in found if candidate.is_file()), None)
    if file is None:
        raise GSplatLocError(
            f"expected {PARAMETERS_FILE} in {path} or its parent, found none: copy it from the data set"
        )
    content = read_json(file)
    with decoding("w h fx fy cx cy scale", file, "restore the file"):
        values = content.get("camera", content)
        width, height = int(values["w"]), int(values["h"])
        numbers = [float(values[key]) for key in ("fx", "fy", "cx", "cy", "scale")]
    fx, fy, cx, cy, scale = numbers
    sides = min(width, height) > 0 and max(width, height) < _LARGEST_SIDE
    if not (sides and np.isfinite(numbers).all() and min(fx, fy, scale) > 0):
        given = quoted([width, height, *numbers])
        raise GSplatLocError(f"expected positive w h fx fy scale in {file}, found {given}: restore the file")
    return CameraModel("PINHOLE", width, height, (fx, fy, cx + 0.5, cy + 0.5)), scale


def _numbered(folder: Path, kind: str) -> dict[int, Path]:
    """Files called kind000123.* by their number."""
    files = sorted(folder.iterdir()) if os.path.isdir(folder) else []
    found = ((re.fullmatch(rf"{kind}(\d+)\.(?:jpe?g|png)", file.name, re.IGNORECASE), file) for file in files)
    return {int(match[1]): file for match, file in found if match}


def _read_poses(path: Path) -> np.ndarray:
    """Camera-to-world matrices [N, 4, 4]."""
    numbers = read_numbers(path)
    if not numbers.size or numbers.size % 16:
        raise GSplatLocError(
            f"expected a 4x4 camera-to-world matrix per line in {path}, found {numbers.size} numbers:"
            " restore it"
        )
    return numbers.reshape(-1, 4, 4)
