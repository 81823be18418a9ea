"""COLMAP models, binary or text: cameras, posed images and points, without the tracks.

Files are read here and not by pycolmap, which believes every count in them: a cut file makes it allocate
without limit, or return other intrinsics. rigs and frames are not needed, because images hold their poses.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.scene.images import CameraModel
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.errors import GSplatLocError, pointer_of_git_lfs, quoted
from gsplatloc.utils.io import read_text

IMAGE_FILES = ("images.bin", "images.txt")
Number = TypeVar("Number", int, float)
_MAX_SIDE = 1_000_000  # pixels of an image; more is a damaged file
_POINT2D_BYTES, _TRACK_BYTES, _POINT_BYTES = 24, 8, 51  # an observation; an element of a track; a point
_POINTS_AT_ONCE = 65_536  # which bounds the memory
_MOST_COMPARED = 50 << 20  # bytes of a text file beside a binary one: 50 MB take 0.5 s
_IMAGE_WORDS = 10  # of an image's line in images.txt
_POINT_WORDS = 7  # at least, of a line in points3D.txt


@dataclass(frozen=True)
class ColmapImage:
    """An image of a model."""

    name: str
    camera_id: int
    cam_from_world: np.ndarray  # [3, 4] float64, not finite if the model has no valid pose


@dataclass(frozen=True)
class ColmapModel:
    """The parts of a model that a scene is made of."""

    camera_models: dict[int, CameraModel]
    images: list[ColmapImage]
    points: SparsePoints | None  # None if the model has none


def read_model(folder: Path) -> ColmapModel:
    """Read the model in `folder`; raises `GSplatLocError` if a file is missing, cut short or damaged."""
    suffix = ".bin" if (folder / "images.bin").is_file() else ".txt"
    binary = suffix == ".bin"
    cameras, images = folder / f"cameras{suffix}", folder / f"images{suffix}"
    if images.is_file() and not os.path.lexists(cameras):
        raise GSplatLocError(
            f"expected {cameras.name} beside {images.name} in {folder}, found none: export the model again,"
            " all of it in binary or all of it in text"
        )
    camera_models = _binary_cameras(cameras) if binary else _text_cameras(cameras)
    found = read_images(folder)
    used: dict[int, CameraModel] = {}
    for image in found:
        if image.camera_id not in camera_models:
            raise _broken(
                images, f"image {image.name} of camera {image.camera_id}, which {cameras.name} lacks"
            )
        used[image.camera_id] = camera_models[image.camera_id]
    for model in used.values():
        _check_camera(model, cameras)
    return ColmapModel(used, found, read_model_points(folder))


def read_images(folder: Path) -> list[ColmapImage]:
    """The images of the model in `folder`."""
    binary, text = (folder / name for name in IMAGE_FILES)
    path = binary if binary.is_file() else text
    found = _binary_images(path) if path is binary else _text_images(path)
    names = [image.name for image in found]
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise _broken(path, f"image {twice} twice")
    return found


def other_poses(folder: Path, images: Sequence[ColmapImage]) -> bool:
    """Whether the model in `folder`, of which `images` were read, is there as text, too, with other poses.

    Not if the text, which is not used, is damaged or very large.
    """
    text = folder / IMAGE_FILES[1]
    if not ((folder / IMAGE_FILES[0]).is_file() and text.is_file() and text.stat().st_size < _MOST_COMPARED):
        return False
    try:
        poses = {image.name: image.cam_from_world for image in _text_images(text)}
    except GSplatLocError:
        return False
    return poses.keys() != {image.name for image in images} or not all(
        np.allclose(poses[image.name], image.cam_from_world, rtol=1e-4, atol=1e-5, equal_nan=True)
        for image in images
    )


def read_model_points(folder: Path) -> SparsePoints | None:
    """The finite 3D points of the model in `folder`; None if it has none, or no file of them."""
    binary, text = folder / "points3D.bin", folder / "points3D.txt"
    if binary.is_file():
        positions, colors = _binary_points(binary)
    elif text.is_file():
        positions, colors = _text_points(text)
    else:
        return None
    finite = np.isfinite(positions).all(1)
    return SparsePoints(positions[finite], colors[finite]) if finite.any() else None


class _Reader:
    """Takes values from the bytes of a file; every count is checked against the bytes that are left."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        try:
            with path.open("rb") as file:  # mapped: most of a large model are keypoints and tracks, not read
                empty = not path.stat().st_size
                self.data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _broken(path, str(error)) from None
        if (pointer := pointer_of_git_lfs(self.data[:64])) is not None:
            raise GSplatLocError(f"expected a file of a COLMAP model in {path}, found {pointer}")

    def take(self, layout: str) -> tuple:
        size = struct.calcsize(layout)
        self.skip(size)
        return struct.unpack_from(layout, self.data, self.at - size)

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise _broken(self.path, f"the end of the file after {len(self.data)} bytes")
        self.at += size

    def count(self, least: int) -> int:
        """A number of entries of at least `least` bytes each."""
        (count,) = self.take("<Q")
        if count * least > len(self.data) - self.at:
            raise _broken(self.path, f"{count} entries in {len(self.data)} bytes")
        return count

    def name(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise _broken(self.path, "a name without an end")
        name = self.data[self.at : end].decode(errors="surrogateescape")
        self.at = end + 1
        return name

    def finish(self) -> None:
        if self.at != len(self.data):
            raise _broken(self.path, f"{len(self.data) - self.at} more bytes than its entries have")


def _binary_cameras(path: Path) -> dict[int, CameraModel]:
    reader = _Reader(path)
    found: dict[int, CameraModel] = {}
    for _ in range(reader.count(24)):
        camera_id, model, width, height = reader.take("<IiQQ")
        name = _model_name(model, path)
        params = reader.take(f"<{_param_count(name)}d")
        _add_camera(found, camera_id, CameraModel(name, width, height, tuple(params)), path)
    reader.finish()
    return found


def _add_camera(found: dict[int, CameraModel], camera_id: int, model: CameraModel, path: Path) -> None:
    if found.setdefault(camera_id, model) != model and str(model) != str(found[camera_id]):  # NaN, too
        raise _broken(path, f"camera {camera_id} twice, with other parameters")


def _binary_images(path: Path) -> list[ColmapImage]:
    reader = _Reader(path)
    found = []
    for _ in range(reader.count(73)):
        _, *pose, camera_id = reader.take("<I7dI")
        name = reader.name()
        reader.skip(reader.count(_POINT2D_BYTES) * _POINT2D_BYTES)
        found.append(ColmapImage(name, camera_id, _matrix(pose)))
    reader.finish()
    return found


def _binary_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = _Reader(path)
    count = reader.count(_POINT_BYTES)
    positions, colors = np.empty((count, 3)), np.empty((count, 3), np.uint8)
    data = np.frombuffer(reader.data, np.uint8)
    for begin in range(0, count, _POINTS_AT_ONCE):
        end = min(begin + _POINTS_AT_ONCE, count)
        starts = _point_starts(reader, end - begin)
        fields = data[starts[:, None] + np.arange(8, 35)]  # x, y, z, and red, green, blue after the id
        positions[begin:end] = np.ascontiguousarray(fields[:, :24]).view("<f8")
        colors[begin:end] = fields[:, 24:]
    reader.finish()
    return positions, colors


def _point_starts(reader: _Reader, count: int) -> np.ndarray:
    """Offsets of the next points [count]; found in turn, because their tracks differ in length."""
    starts, at, data, last = array("q"), reader.at, reader.data, len(reader.data) - _POINT_BYTES
    length = struct.Struct("<Q").unpack_from
    for _ in range(count):
        if at > last:
            raise _broken(reader.path, f"the end of the file after {len(data)} bytes")
        starts.append(at)
        at += _POINT_BYTES + _TRACK_BYTES * length(data, at + _POINT_BYTES - 8)[0]
    if at > len(data):
        raise _broken(reader.path, f"the end of the file after {len(data)} bytes")
    reader.at = at
    return np.frombuffer(starts, np.int64)


def _text_cameras(path: Path) -> dict[int, CameraModel]:
    found: dict[int, CameraModel] = {}
    for words, where in _lines(path):
        if not words:
            continue
        name = words[1] if len(words) > 1 else "nothing"
        if name not in _model_names().values() or len(words) != 4 + _param_count(name):
            raise _broken(path, f"{' '.join(words)} in {where}")
        camera_id, width, height = (_parsed(int, words[i], where) for i in (0, 2, 3))
        params = [_parsed(float, word, where) for word in words[4:]]
        _add_camera(found, camera_id, CameraModel(name, width, height, tuple(params)), path)
    return found


def _text_images(path: Path) -> list[ColmapImage]:
    """An image has a line, and a second one with its keypoints, which some programs leave out if empty."""
    found: list[ColmapImage] = []
    keypoints_expected = False
    for line, where in _numbered_lines(path):
        words = line.split()
        if _is_image(words, keypoints_expected):
            pose = [_parsed(float, word, where) for word in words[1:8]]
            name = line.split(maxsplit=_IMAGE_WORDS - 1)[-1].rstrip()  # spaces of a name count
            found.append(ColmapImage(name, _parsed(int, words[8], where), _matrix(pose)))
            keypoints_expected = True
        elif words and not (keypoints_expected and len(words) % 3 == 0):
            raise _broken(path, f"{' '.join(words)} in {where}")
        else:
            keypoints_expected = False
    return found


def _is_image(words: Sequence[str], keypoints_expected: bool) -> bool:
    """Whether a line of images.txt is an image's. A line of keypoints, which follows one, holds triples of
    numbers; names of images may hold spaces, and begin with numbers."""
    if len(words) < _IMAGE_WORDS:
        return False
    triples = len(words) % 3 == 0 and all(map(_is_number, words[_IMAGE_WORDS - 1 :]))
    return not (keypoints_expected and triples)


def _text_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    lines = ((words, where) for words, where in _lines(path) if words)
    parts = [np.zeros((0, 6))]
    while batch := list(islice(lines, _POINTS_AT_ONCE)):
        parts.append(_point_numbers(batch, path))
    numbers = np.concatenate(parts)
    return numbers[:, :3].copy(), np.nan_to_num(numbers[:, 3:]).clip(0, 255).astype(np.uint8)


def _point_numbers(lines: Sequence[tuple[list[str], str]], path: Path) -> np.ndarray:
    """Position and colour [n, 6] of the lines of points."""
    for words, where in lines:
        if len(words) < _POINT_WORDS:
            raise _broken(path, f"{' '.join(words)} in {where}")
    try:
        return np.array([words[1:_POINT_WORDS] for words, _ in lines], np.float64)
    except ValueError:
        return np.array([[_parsed(float, word, where) for word in words[1:7]] for words, where in lines])


def _lines(path: Path) -> Iterator[tuple[list[str], str]]:
    """The words of every line that is no comment, blank ones included, with `line N`."""
    return ((line.split(), where) for line, where in _numbered_lines(path))


def _numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line that is no comment, blank ones included, with `line N`."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.lstrip().startswith("#"):
            yield line, f"line {number}"


def _parsed(convert: Callable[[str], Number], word: str, where: str) -> Number:
    try:
        return convert(word)
    except (ValueError, OverflowError):
        raise GSplatLocError(
            f"expected a number in {where} of a COLMAP model, found {quoted(word)}: export the model again"
        ) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _model_name(number: int, path: Path) -> str:
    if number not in _model_names():
        raise _broken(path, f"the unknown camera model {number}")
    return _model_names()[number]


def _model_names() -> dict[int, str]:
    """COLMAP's camera models by their numbers in cameras.bin."""
    members = pycolmap.CameraModelId.__members__.items()
    return {int(number): name for name, number in members if name != "INVALID"}


def _param_count(model: str) -> int:
    return len(pycolmap.Camera.create_from_model_name(1, model, 1.0, 2, 2).params)


def _check_camera(model: CameraModel, path: Path) -> None:
    """Raise `GSplatLocError` for a camera that no image can have, in the file `path`."""
    width, height, params = model.width, model.height, model.params
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE and np.isfinite(params).all()):
        raise _broken(path, f"a camera of {width}x{height} pixels with parameters {list(params)}")
    focal_lengths = [params[index] for index in model.colmap().focal_length_idxs()]
    if not focal_lengths:
        raise GSplatLocError(
            f"expected perspective or fisheye cameras in {path}, found {model.name}: cut the panoramas into"
            " perspective images"
        )
    if min(focal_lengths) <= 0:
        raise _broken(path, f"{model.name} with parameters {list(params)}")


def _matrix(numbers: Sequence[float]) -> np.ndarray:
    """qw qx qy qz tx ty tz -> [3, 4]; NaN if the quaternion has no direction."""
    quaternion, translation = np.array(numbers[:4]), np.array(numbers[4:])
    norm = np.linalg.norm(quaternion)
    if not (np.isfinite(numbers).all() and np.isfinite(norm) and norm > 1e-6):
        return np.full((3, 4), np.nan)
    w, x, y, z = quaternion / norm
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), translation[0]],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), translation[1]],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), translation[2]],
    ])  # fmt: skip


def _broken(path: Path, found: str) -> GSplatLocError:
    return GSplatLocError(
        f"expected a COLMAP model in {path.parent}, found {quoted(found)} in {path.name}: export it again"
    )
