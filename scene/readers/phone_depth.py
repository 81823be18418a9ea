"""Depth of phones: with the sensor's confidence, and in the formats of Record3D."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gsplatloc.scene.image_header import damaged, decoding_image
from gsplatloc.scene.images import decode_depth, decode_rgb, where_known
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
    shape: tuple[int, int] | None = None  # rows and columns of Record3D's .depth and .conf

    def __call__(self, path: Path, units_per_metre: float) -> np.ndarray:
        """[h, w] float32 metres, 0 where unknown."""
        depth = self._depth(path, units_per_metre)
        if self.confidence is None:
            return depth
        if self.confidence.suffix.lower() == ".conf":
            confidence = _array(self.confidence, self.shape, depth.shape, "B")
        else:
            confidence = decode_rgb(self.confidence)[..., 0]
        if confidence.shape != depth.shape:
            size = depth.shape[1], depth.shape[0]
            confidence = cv2.resize(confidence, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.where(confidence > 0, depth, np.float32(0))

    def _depth(self, path: Path, units_per_metre: float) -> np.ndarray:
        suffix = path.suffix.lower()
        if suffix not in _PACKAGES:
            return decode_depth(path, units_per_metre)
        stored = _read_exr(path) if suffix == ".exr" else _array(path, self.shape, None, "f")
        return where_known(stored.astype(np.float32))


def _array(path: Path, shape: tuple[int, int] | None, other: tuple[int, ...] | None, kind: str) -> np.ndarray:
    """The array in a .depth (floats, "f") or .conf file (bytes, "B") of Record3D."""
    data = _decompressed(path)
    for rows, columns in (known for known in (shape, other) if known):
        for dtype in ("<f4", "<f2") if kind == "f" else ("u1",):
            if len(data) == rows * columns * np.dtype(dtype).itemsize:
                return np.frombuffer(data, dtype).reshape(rows, columns)
    expected = "x".join(str(side) for side in reversed(shape or other or ()))
    raise damaged(path, f"{len(data)} bytes for {expected} pixels")


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
