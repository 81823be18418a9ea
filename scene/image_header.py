"""Image files before they are decoded: size, orientation, and whether the file is complete."""

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from PIL import Image

from gsplatloc.scene.jpeg_scan import PILLOW_ERRORS as PILLOW_ERRORS
from gsplatloc.scene.jpeg_scan import scan_is_whole
from gsplatloc.utils.errors import GSplatLocError, quoted

MAX_PIXELS = 2**30  # OpenCV decodes no larger image
_PLAUSIBLE_PIXELS = 2**24  # smaller images are decoded however few bytes the file has
_MAX_COMPRESSION = 1032  # decoded bytes per stored byte: deflate cannot reach more
_LOSSLESS_RATIO_FORMATS = frozenset({"PNG", "TIFF", "JPEG", "BMP"})  # none of them compresses further
ORIENTATION = 0x0112  # EXIF's tags
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
EXIF_IFD, _FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x8769, 0x920A, 0xA405
# Pillow guesses among 43 formats by the content of a file. Some of the others allocate what a header asks
# for, one runs another program, and OpenCV decodes none of them.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM")
HEIF_SUFFIXES = frozenset({".heic", ".heif"})  # phones' photos, which the package pillow-heif reads
_TAIL = 4096  # bytes at the end of a JPEG in which its end marker is looked for first
_HOLE = bytes(1024)  # compressed data of a photo has no such run
_SHORT = 80  # characters of what is found in the place of an image, in a list of those left out
_HEIF_HOLE = 4096  # zero bytes: a block of a disk that was not written
_pillow_limit = Lock()  # held while Pillow's own limit is replaced by `MAX_PIXELS`


_LFS_POINTER = "a pointer of Git LFS in its place"
# The beginnings of what is found in the place of images -> what it is.
_OTHER_CONTENT = {
    b"version https://git-lfs": _LFS_POINTER,
    b"<": "a page of the web or an XML file",
    b"\x00\x05\x16\x07": "a companion file of macOS",
    b"\x00\x00\x00\x0cjP  ": "a picture in the format JPEG 2000, which is not read",
    b"\xff\x0a": "a picture in the format JPEG XL, which is not read",
    b"\x00\x00\x00\x0cJXL ": "a picture in the format JPEG XL, which is not read",
}
_ISO_PICTURES = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC",
    b"hevc": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF",
}  # fmt: skip
JPEG_START = b"\xff\xd8"
INSTALL_HEIF = "pip install 'gsplatloc[heic]', or convert the photos"


class DamagedImageError(GSplatLocError):
    """An image file that cannot be decoded, or only in part.

    `found` is what is in its place; `action` is what brings back all such images of a scene, if it is known.
    """

    def __init__(self, message: str, found: str, action: str = "") -> None:
        super().__init__(message)
        self.found, self.action = found, action


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Pillow's image of which only the header is read; raises `DamagedImageError` if there is none.

    A header that promises far more pixels than the bytes of the file can hold is refused, because decoders
    allocate memory for them first.
    """
    check_readable(path)
    try:
        with _pillow_limit, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, which has no effect
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path, formats=_formats())
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except PILLOW_ERRORS as error:
        raise damaged(path, _other_content(path) or str(error)) from None
    with image:
        _check_plausible(path, image)
        yield image


@cache
def reads_heif() -> bool:
    """Whether pillow-heif is installed; Pillow then reads phones' .heic, upright."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _formats() -> tuple[str, ...]:
    return (*_FORMATS, "HEIF") if reads_heif() else _FORMATS


def _other_content(path: Path) -> str | None:
    """What a file is that is no image, if it is something that is found in the place of one."""
    start = _beginning(path)
    if not start:
        return "an empty file" if os.path.isfile(path) else None
    if start[4:8] == b"ftyp" and start[8:12] in _ISO_PICTURES and not (is_heif(path) and reads_heif()):
        return f"a picture in the format {_ISO_PICTURES[start[8:12]]}, which is not read"
    return next((text for beginning, text in _OTHER_CONTENT.items() if start.startswith(beginning)), None)


def _beginning(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except (OSError, ValueError):  # a name that no file can have
        return b""


def is_heif(path: Path) -> bool:
    """Whether the content of a file is a phone's photo: .heic files are renamed to .jpg, and the reverse."""
    start = _beginning(path)
    return start[4:8] == b"ftyp" and _ISO_PICTURES.get(start[8:12], "").startswith("HEI")


def check_readable(path: Path) -> None:
    """Raise `GSplatLocError` for an HEIC photo, whatever its name, if pillow-heif is not installed."""
    if is_heif(path) and not reads_heif():
        raise GSplatLocError(
            f"expected the package pillow-heif to read {quoted(path)}, found none: {INSTALL_HEIF}"
        )


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored, from the header alone. EXIF rotation is ignored, as calibrations do."""
    with open_image(path) as image:
        return stored_size(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as stored. Pillow exchanges those of a TIFF that is rotated by 90 degrees."""
    if image.format == "TIFF":
        return int(image.tag_v2[_TIFF_WIDTH]), int(image.tag_v2[_TIFF_HEIGHT])  # type: ignore[attr-defined]
    return image.size


def exif_orientation(path: Path) -> int:
    """EXIF's orientation, 1 to 8; 1 if the image has none or a damaged one."""
    with open_image(path) as image:
        try:
            return int(image.getexif().get(ORIENTATION, 1))
        except PILLOW_ERRORS:
            return 1


def exif_focal_35mm(path: Path) -> float:
    """The focal length for 35 mm film in EXIF data, millimetres; 0 if there is none."""
    return _exif_number(path, _FOCAL_LENGTH_35MM)


def exif_focal_mm(path: Path) -> float:
    """The focal length in EXIF data, millimetres, which tells lenses of a phone apart; 0 if there is none."""
    return _exif_number(path, _FOCAL_LENGTH) or exif_focal_35mm(path)


def _exif_number(path: Path, tag: int) -> float:
    with open_image(path) as image:
        try:
            return float(image.getexif().get_ifd(EXIF_IFD).get(tag) or 0)
        except (*PILLOW_ERRORS, ZeroDivisionError):
            return 0.0


@contextmanager
def decoding_image(path: Path, kinds: tuple[type[Exception], ...] = PILLOW_ERRORS) -> Iterator[None]:
    """Errors of these kinds in the body, which decodes the file `path`, become a `DamagedImageError`."""
    try:
        yield
    except kinds as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, found: str) -> DamagedImageError:
    if not os.path.exists(path):  # also for names that no file can have
        message = f"expected an image at {quoted(path)}, found no file: check the path"
        return DamagedImageError(message, "no file")
    found = found or "one that cannot be decoded"  # some errors of decoders have no text
    action = "run git lfs pull" if found == _LFS_POINTER else ""
    advice = action or "restore or remove the file"
    message = f"expected an image at {quoted(path)}, found {quoted(found)}: {advice}"
    return DamagedImageError(message, quoted(found, _SHORT), action)


def check_complete(path: Path) -> None:
    """Raise `DamagedImageError` if the file ends before its image does; JPEGs are decoded small."""
    with decoding_image(path, (OSError,)), path.open("rb") as file:
        complete = is_complete(file)
        file.seek(0)
        start = file.read(len(JPEG_START))
        data = start + file.read() if start == JPEG_START else b""
    if complete and data:
        complete = scan_is_whole(data)
    if not complete:
        raise damaged(path, "a file that was cut short")


def is_complete(file: BinaryIO) -> bool:
    """Whether a JPEG, PNG, WebP or BMP has its end; True for other formats, whose decoders check it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:3] == b"\xff\xd8\xff":
        return _jpeg_has_end(file, size)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        file.seek(max(0, size - _TAIL))
        return b"IEND" in file.read() or _contains(file, 8, b"IEND")
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        file.seek(0)
        return size >= 8 + int.from_bytes(start[4:8], "little") and not _webp_has_hole(file.read())
    if start[4:8] == b"ftyp":
        return not _heif_has_hole(file, size)
    if start[:2] == b"BM":
        return size >= int.from_bytes(start[2:6], "little")
    return size > 0


def _jpeg_has_end(file: BinaryIO, size: int) -> bool:
    """Whether an end marker follows the first scan. A marker before it belongs to a thumbnail."""
    position = 2
    while position + 4 <= size:
        file.seek(position)
        marker = file.read(4)
        if marker[0] != 0xFF:
            return False
        if marker[1] == 0xFF:  # a fill byte
            position += 1
            continue
        if marker[1] == 0xDA:
            break
        position += 2 + int.from_bytes(marker[2:], "big")
    else:
        return False
    tail = max(position, size - _TAIL)
    file.seek(tail)
    return b"\xff\xd9" in file.read() or _contains(file, position, b"\xff\xd9")


def _webp_has_hole(data: bytes) -> bool:
    """Whether the compressed data has a long run of zeros, as files of interrupted downloads have."""
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if kind in (b"VP8 ", b"VP8L") and data.find(_HOLE, position, position + size) >= 0:
            return True
        position += size + size % 2
    return False


def _heif_has_hole(file: BinaryIO, size: int) -> bool:
    """Whether the compressed data, which escapes every third zero, has a long run of zeros.

    Padding and the videos of motion photos may have one: they are in other boxes than `mdat`, or follow the
    image as a file of their own (boxes: ISO 14496-12, section 4.2).
    """
    position, found = 0, False
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:  # then it has 64 bits
            length, header = int.from_bytes(file.read(8), "big"), 16
        end = position + length if length else size
        if end < position + header or (kind == b"ftyp" and position):
            break
        if kind == b"mdat":
            found = True
            if bytes(_HEIF_HOLE) in file.read(min(end, size) - file.tell()):
                return True
        position = end
    return not found and _contains(file, 0, bytes(_HEIF_HOLE))


def _contains(file: BinaryIO, start: int, marker: bytes) -> bool:
    """Whether the file holds `marker` after `start`: files may have other data after the image's end."""
    file.seek(start)
    return marker in file.read()


def _check_plausible(path: Path, image: Image.Image) -> None:
    width, height = image.size
    pixels = width * height
    if pixels == 0 or pixels > MAX_PIXELS:
        raise damaged(path, f"one of {width}x{height} pixels, of at most {MAX_PIXELS}")
    # A pixel takes at least one bit; 16 bits where the header says so.
    bits = {"1": 1, "L": 2, "P": 1, "I;16": 16, "I;16B": 16, "RGB": 24, "RGBA": 32}.get(image.mode, 8)
    if image.format in _LOSSLESS_RATIO_FORMATS and pixels > _PLAUSIBLE_PIXELS:
        stored = path.stat().st_size
        if pixels * bits / 8 > _MAX_COMPRESSION * stored:
            raise damaged(path, f"{width}x{height} pixels in {stored} bytes, a header that cannot be true")
