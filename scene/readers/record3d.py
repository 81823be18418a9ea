"""Recordings of Record3D (iOS): an .r3d file, which is a zip archive, or one of the app's exported folders.

`metadata` (or metadata.json) holds a camera-to-world pose per frame, `qx qy qz qw x y z`, with OpenGL axes; K
in columns, for an image of w x h pixels, newer versions `perFrameIntrinsicCoeffs` (fx fy cx cy); dw x dh, the
size of depth, which older versions do not state. `rgbd/12.jpg`, `12.depth` (floats, compressed by LZFSE) and
`12.conf` (bytes, 0 to 2) are frame 12; exported folders have `rgb/12.jpg` and `depth/12.exr`. Images of a
phone held upright are portrait, and their poses and intrinsics are those of the portrait camera. Poses are
relative to the first frame (`initPose` moves them all alike, and is not applied).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gsplatloc.scene.cameras import PoseConvention, Scene
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.phone_depth import INSTALL, PhoneDepth, missing_package
from gsplatloc.scene.readers.phones import (
    DEPTH_SUFFIXES,
    PhoneFrame,
    numbered,
    numbered_images,
    numbers,
    pose_from_quaternion,
    scene_of_frames,
)
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

_IMAGES = ("rgbd", "rgb")
_CONFIDENCES = frozenset({".conf", ".png"})
_LARGEST_SIDE = 100_000  # pixels of depth


@READERS.register(
    "record3d",
    help="FILE.r3d, or metadata with rgbd/ (Record3D)",
    priority=15,
)
class Record3dReader:
    """Reads recordings of Record3D."""

    def is_recording(self, path: Path) -> bool:
        return True

    def matches(self, path: Path) -> bool:
        return _metadata(path) is not None and _folder(path, _IMAGES) is not None

    def read(self, path: Path, options: SceneOptions) -> Scene:
        file, images = _metadata(path), _folder(path, (options.images,) if options.images else _IMAGES)
        if file is None or images is None:
            raise GSplatLocError(f"expected metadata and images in {path}, found none: export it again")
        document, tally = read_json(file), Tally()
        if not isinstance(document, dict) or not isinstance(document.get("poses"), list):
            raise GSplatLocError(f"expected a list of poses in {file}, found none: export it again")
        frames = _frames(path, document, numbered_images(images), tally)
        convention = PoseConvention(opengl_axes=True, quaternion="xyzw")
        return scene_of_frames(path, frames, options, tally, convention)


def _frames(
    path: Path, document: Mapping[str, Any], images: dict[int, Path], tally: Tally
) -> Iterator[PhoneFrame]:
    depths = numbered(path / "rgbd", frozenset({".depth"})) or numbered(path / "depth", DEPTH_SUFFIXES)
    confidences = numbered(path / "rgbd", frozenset({".conf"})) or numbered(path / "conf", _CONFIDENCES)
    if package := missing_package(next(iter(depths.values()), None)):
        tally.note(f"depth is left out, which the package {package} reads: {INSTALL}")
        depths = {}
    poses, size, shape = document["poses"], _size(document, "w", "h"), _size(document, "dw", "dh")
    shape = None if shape is None else (shape[1], shape[0])
    for number, image, row in _rows(images, len(poses)):
        yield PhoneFrame(
            image,
            _intrinsics(document, row),
            _pose(poses[row]) if row < len(poses) else None,
            size,
            depths.get(number),
            PhoneDepth(confidences.get(number), shape, image),
        )


def _rows(images: dict[int, Path], poses: int) -> Iterator[tuple[int, Path, int]]:
    """(number, image, row of its pose): the number is the row, unless frames were numbered with gaps."""
    by_order = len(images) == poses and max(images, default=0) >= poses
    for index, (number, image) in enumerate(sorted(images.items())):
        yield number, image, index if by_order else number


def _pose(entry: Any) -> np.ndarray | None:
    values = numbers(entry, 7)
    return None if values is None else pose_from_quaternion(values[:4].tolist(), values[4:].tolist())


def _intrinsics(document: Mapping[str, Any], row: int) -> list[float] | None:
    """fx fy cx cy: those of the frame if the file has them, else those of K."""
    rows = document.get("perFrameIntrinsicCoeffs")
    own = rows[row] if isinstance(rows, list) and row < len(rows) else None
    coefficients = numbers(own[:4], 4) if isinstance(own, list) else None
    if coefficients is not None and np.isfinite(coefficients).all() and (coefficients > 0).all():
        return coefficients.tolist()
    matrix = numbers(document.get("K"), 9)
    if matrix is None:
        raise GSplatLocError("expected K, nine numbers, in Record3D's metadata, found none: export it again")
    by_rows = matrix[2] > 0 and matrix[6] == 0  # as some converters write it
    return matrix[[0, 4, 2, 5] if by_rows else [0, 4, 6, 7]].tolist()


def _size(document: Mapping[str, Any], width: str, height: str) -> tuple[int, int] | None:
    """The (width, height) under two keys; None if they hold none."""
    values = numbers([document.get(width), document.get(height)], 2)
    if values is None or not ((values >= 1) & (values < _LARGEST_SIDE)).all():
        return None
    return int(values[0]), int(values[1])


def _metadata(path: Path) -> Path | None:
    files = (path / name for name in ("metadata", "metadata.json"))
    return next((file for file in files if file.is_file()), None)


def _folder(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)
