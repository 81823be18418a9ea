"""Depth of phones: with the sensor's confidence, and in the formats of Record3D."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gsplatloc.scene.image_header import damaged, decoding_image
from gsplatloc.scene.images import ASPECT_TOLERANCE, decode_depth, decode_rgb, image_size, where_known
from gsplatloc.utils.errors import GSplatLocError, quoted

INSTALL = "pip install 'gsplatloc[phones]'"
# Packages that read these formats: Apple's LZFSE compression and OpenEXR images.
_PACKAGES = {".depth": "lzfse", ".conf": "lzfse", ".exr": "OpenEXR"}
_LZFSE_START = b"bvx"  # of every block; files of some converters are not compressed
_MOST_BYTES = 64 << 20  # of a depth map; LiDAR's are 200 kB, those of the front camera 1.2 MB
_EXR_ERRORS = (OSError, RuntimeError, ValueError, TypeError, StopIteration, MemoryError)
_MOST_EXPANSION = 2000  # bytes per compressed byte that LZFSE can reach, roughly


def missing_package(depth: Path | None) -> str | None:
    """The package that is needed to read a depth map and is not installed."""
    package = _PACKAGES.get(depth.suffix.lower()) if depth else None
    return package if package and find_spec(package) is None else None


@dataclass(frozen=True)
class PhoneDepth:
    """Decodes a depth map; where the sensor's confidence is 0, the lowest, there is no depth."""

    confidence: Path | None = None  # image, or array of bytes as Record3D writes it; None = all is confident
    shape: tuple[int, int] | None = None  # rows and columns of Record3D's .depth and .conf, if it states them
    image: Path | None = None  # which they belong to: they are turned as it is

    def __call__(self, path: Path, units_per_metre: float) -> np.ndarray:
        """[h, w] float32 metres, 0 where unknown."""
        depth = self._depth(path, units_per_metre)
        if self.confidence is None:
            return depth
        if self.confidence.suffix.lower() == ".conf":
            confidence = self._array(self.confidence, ("u1",), depth.shape)
        else:
            confidence = decode_rgb(self.confidence)[..., 0]
        if confidence.shape != depth.shape:
            size = depth.shape[1], depth.shape[0]
            confidence = cv2.resize(confidence, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.where(confidence > 0, depth, np.float32(0))

    def _array(self, path: Path, dtypes: tuple[str, ...], other: tuple[int, ...] | None = None) -> np.ndarray:
        """The array in a .depth or .conf file: of the stated shape, of `other`, or of the image's aspect."""
        data = _decompressed(path)
        image = None if self.image is None else image_size(self.image)
        stated = self.shape if self.shape is None or image is None else _turned(self.shape, image)
        for name in dtypes:
            dtype: np.dtype = np.dtype(name)
            values = len(data) // dtype.itemsize
            like = _shape_like(image, values) if image and not (stated or other) else None
            for shape in (known for known in (stated, other, like) if known):
                if len(data) == math.prod(shape) * dtype.itemsize:
                    return np.frombuffer(data, dtype).reshape(shape)
        expected = "x".join(str(side) for side in reversed(stated or other or ()))
        fit = f" for {expected} pixels" if expected else ", which fit no size of the image's aspect"
        raise damaged(path, f"{len(data)} bytes{fit}")

    def _depth(self, path: Path, units_per_metre: float) -> np.ndarray:
        suffix = path.suffix.lower()
        if suffix not in _PACKAGES:
            return decode_depth(path, units_per_metre)
        stored = _read_exr(path) if suffix == ".exr" else self._array(path, ("<f4", "<f2"))
        return where_known(stored.astype(np.float32))


def _turned(shape: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """A shape, portrait if the image of that (width, height) is, else landscape."""
    return shape if (shape[0] > shape[1]) == (image[1] > image[0]) else (shape[1], shape[0])


def _shape_like(image: tuple[int, int], values: int) -> tuple[int, int] | None:
    """The shape of so many values with the aspect of an image (width, height); None if there is none."""
    rows = round(math.sqrt(values * image[1] / image[0]))
    if rows < 1 or values % rows or abs(rows * rows * image[0] / (values * image[1]) - 1) > ASPECT_TOLERANCE:
        return None
    return rows, values // rows


def _decompressed(path: Path) -> bytes:
    with decoding_image(path, (OSError,)):
        data = path.read_bytes()
    if not data.startswith(_LZFSE_START):
        return data
    lzfse = _package("lzfse", path)
    declared = int.from_bytes(data[4:8], "little")  # of the first block
    if declared > min(_MOST_BYTES, _MOST_EXPANSION * len(data)):
        raise damaged(path, f"{declared} bytes in {len(data)}")
    try:
        found: bytes = lzfse.decompress(data)
    except (lzfse.error, MemoryError):
        raise damaged(path, "a damaged LZFSE stream") from None
    return found


def _read_exr(path: Path) -> np.ndarray:
    """The first channel [h, w] of an OpenEXR image."""
    openexr = _package("OpenEXR", path)
    with decoding_image(path, _EXR_ERRORS), openexr.File(str(path), separate_channels=True) as file:
        channels = file.channels()
        stored = np.array(channels["R" if "R" in channels else next(iter(channels))].pixels)
    if stored.ndim != 2 or not 0 < math.prod(stored.shape) * 4 <= _MOST_BYTES:
        raise damaged(path, f"an array of shape {stored.shape}")
    return stored


def _package(name: str, path: Path) -> Any:
    if find_spec(name) is None:
        raise GSplatLocError(f"expected the package {name} to read {quoted(path)}, found none: {INSTALL}")
    return __import__(name)
