"""JPEGs that were cut although they end in an end marker: none is read half grey."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from gsplatloc.scene.image_header import check_complete
from gsplatloc.scene.images import decode_rgb
from gsplatloc.utils.errors import GSplatLocError

END = b"\xff\xd9"
ENCODINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimized": {"optimize": True},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 4},
    "progressive": {"progressive": True},
}


def photo() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encoded(image: np.ndarray, encoding: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **ENCODINGS[encoding])
    return buffer.getvalue()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("added", [END, bytes(20_000) + END])
@pytest.mark.parametrize("suffix", ["jpg", "jfif", "JPE", "png"])
def test_a_cut_jpeg_with_an_end_marker_is_refused(
    tmp_path: Path, encoding: str, share: float, added: bytes, suffix: str
) -> None:
    data = encoded(photo(), encoding)
    path = tmp_path / f"photo.{suffix}"
    path.write_bytes(data[: int(share * len(data))] + added)
    for read in (decode_rgb, check_complete):
        with pytest.raises(GSplatLocError, match=rf"photo\.{suffix}.*cut short"):
            read(path)


def replaced(data: bytearray, at: int) -> None:
    data[at : at + 900] = np.random.default_rng(at).integers(0, 255, 900, dtype=np.uint8).tobytes()


def removed(data: bytearray, at: int) -> None:
    del data[at : at + 900]


def repeated(data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + 900]


@pytest.mark.parametrize("encoding", ["plain", "full colour"])
@pytest.mark.parametrize("height", [226, 240])
@pytest.mark.parametrize("damage", [replaced, removed, repeated])
def test_a_jpeg_damaged_in_the_middle_is_refused(
    tmp_path: Path, encoding: str, height: int, damage: Callable[[bytearray, int], None]
) -> None:
    data, path = encoded(photo()[:height], encoding), tmp_path / "photo.jpg"
    for share in (0.3, 0.45, 0.6):
        changed = bytearray(data)
        damage(changed, int(share * len(data)))
        path.write_bytes(changed)
        for read in (decode_rgb, check_complete):
            with pytest.raises(GSplatLocError, match=r"photo\.jpg.*cut short"):
                read(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("padding", [b"", b"\xff" * 30, bytes(30)])
def test_a_whole_jpeg_with_a_filled_sector_is_read(tmp_path: Path, mode: str, padding: bytes) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert(mode).save(buffer, "JPEG")
    path = tmp_path / "photo.jpg"
    path.write_bytes(buffer.getvalue()[: -len(END)] + padding + END)
    check_complete(path)
    assert decode_rgb(path).shape == (240, 320, 3)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("level", [0, 127, 128, 129, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_jpeg_with_a_flat_end_is_read(
    tmp_path: Path, encoding: str, level: int, channels: int
) -> None:
    image = photo()
    image[150:] = level
    image = image[:235, :315]
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(image if channels == 3 else image[..., 0], encoding) + b"appended" * 50 + END)
    check_complete(path)
    assert decode_rgb(path).shape == (235, 315, 3)
