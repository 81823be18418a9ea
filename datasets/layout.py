"""Write scenes in the `train/` and `test/` layout; a scene's folder exists only if the scene is complete."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gsplatloc.datasets.options import MARKER
from gsplatloc.scene.readers.poses import read_numbers
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_json, write_bytes, write_json, write_text
from gsplatloc.utils.locks import output_folder

_PNG_COMPRESSION = 3  # of 9
_IMAGE_FOLDERS = ("train/rgb", "test/rgb", "images")

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Frame:
    """One image to be written into a scene."""

    split: str  # "train" or "test"
    rgb_name: str  # file names within the folders of the split
    pose_name: str
    calibration_name: str
    world_from_cam: np.ndarray  # [4, 4] metres
    focal_length: float  # pixels of the image as written


def archived_pose(image: Path, suffix: str) -> np.ndarray | None:
    """The camera-to-world pose [4, 4] beside an image of an archive; None where tracking was lost."""
    path = image.with_name(image.name.removesuffix(suffix) + ".pose.txt")
    numbers = read_numbers(path)
    if numbers.size != 16:
        raise GSplatLocError(
            f"expected a 4x4 pose in {path}, found {numbers.size} numbers: delete the archive"
        )
    return numbers.reshape(4, 4) if np.isfinite(numbers).all() else None


def microsoft_names(stem: str, suffix: str) -> tuple[str, str, str]:
    """The names that 7-Scenes and 12-Scenes use: (image, pose, calibration)."""
    return f"{stem}.color{suffix}", f"{stem}.pose.txt", f"{stem}.calibration.txt"


def write_frame(root: Path, frame: Frame) -> Path:
    """Write the frame's pose and calibration; returns the path for its image, whose folder exists."""
    folder = root / frame.split
    write_text(folder / "poses" / frame.pose_name, format_pose(frame.world_from_cam), durable=False)
    focal_length = f"{frame.focal_length:.12g}\n"
    write_text(folder / "calibration" / frame.calibration_name, focal_length, durable=False)
    (folder / "rgb").mkdir(exist_ok=True)
    return folder / "rgb" / frame.rgb_name


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image as OpenCV has it: grey values or BGR."""
    encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])[1]
    write_bytes(path, encoded.tobytes(), durable=False)


def format_pose(world_from_cam: np.ndarray) -> str:
    """A 4x4 matrix as four lines of text."""
    return "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in world_from_cam)


def is_metric(scene: Path) -> bool:
    """False for a scene whose poses were computed of photos alone: its unit of length is arbitrary."""
    marker = scene / MARKER
    found = read_json(marker) if marker.is_file() else {}
    return not (isinstance(found, dict) and "input" in found)


def is_complete(scene: Path, settings: Settings, quiet: bool = False) -> bool:
    """Whether the scene is complete and made with these settings; any other folder is an error."""
    if not scene.exists():
        return False
    try:
        found = read_json(scene / MARKER)
    except GSplatLocError:
        found = None
    if found == dict(settings):
        log(f"{scene}: complete", quiet)
        return True
    what = "a folder that is no complete scene" if found is None else f"one made with {quoted(found)}"
    raise GSplatLocError(f"expected no {scene} or one made with {dict(settings)}, found {what}: move it away")


@contextmanager
def building(scene: Path, settings: Settings, quiet: bool = False) -> Iterator[tuple[Path, Path]]:
    """Yield (root, scratch): folders for the files of the scene and for temporary files.

    Both lie beside `scene`, on the same disk. On success root is renamed to `scene`. What a killed run
    leaves of them is deleted by the next one.
    """
    with output_folder(scene.with_name(f".{scene.name}.unfinished")) as work:
        root, scratch = work / "scene", work / "scratch"
        try:
            for folder in (root, scratch):
                shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
                folder.mkdir()
            yield root, scratch
            write_json(root / MARKER, dict(settings))
            _publish(root, scene)
        finally:
            for folder in (root, scratch):
                shutil.rmtree(folder, ignore_errors=True)
    counts = [
        f"{_count(scene / folder)} in {folder}" for folder in _IMAGE_FOLDERS if (scene / folder).is_dir()
    ]
    log(f"{scene}: {', '.join(counts)}", quiet)


def _publish(root: Path, scene: Path) -> None:
    try:
        root.rename(scene)
    except OSError as error:
        raise GSplatLocError(
            f"expected to create {scene}, found: {error.strerror}; move it away if another run made it"
        ) from None


def _count(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
