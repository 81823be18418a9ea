"""Collect photos, or the sharpest frames of a video, as upright images in a folder."""

import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gsplatloc.scene.image_files import VIDEO_SUFFIXES, image_files, image_suffixes, unread_files
from gsplatloc.scene.image_header import (
    EXIF_IFD,
    HEIF_SUFFIXES,
    ORIENTATION,
    DamagedImageError,
    decoding_image,
    open_image,
)
from gsplatloc.scene.images import decode_upright
from gsplatloc.scene.videos import open_video, write_frame
from gsplatloc.utils.console import log, progress
from gsplatloc.utils.errors import GSplatLocError, pointer_of_git_lfs, quoted
from gsplatloc.utils.io import writing
from gsplatloc.utils.parallel import for_each

_JPEG_QUALITY = 95
_KEPT_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}  # .heic becomes .jpg, others .png
_LEAST_DECODED = 0.9  # of the frames that a video states; containers state a few too many
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes of a name, which COLMAP does not take
_SHARPNESS_WIDTH = 480  # pixels at which the sharpness of frames is compared


def collect(source: Path, target: Path, frames: int, max_side: int, quiet: bool = False) -> int:
    """Copy the photos below `source`, or `frames` frames of the video `source`, into `target`.

    Images are rotated upright by their EXIF orientation, which calibrations ignore, and shrunk to at most
    `max_side` pixels. Returns their number.
    """
    if max_side < 1 or (frames < 1 and not source.is_dir()):
        raise GSplatLocError(
            f"expected --max_side and --frames of at least 1, found {max_side} and {frames}: correct them"
        )
    if source.is_dir():
        return _collect_photos(source, target, max_side, quiet)
    if source.suffix.lower() in VIDEO_SUFFIXES and source.is_file():
        return _collect_frames(source, target, frames, max_side, quiet)
    kinds = " ".join(sorted(VIDEO_SUFFIXES))
    raise GSplatLocError(f"expected a folder of photos or a video ({kinds}), found {source}: check the path")


def _collect_photos(source: Path, target: Path, max_side: int, quiet: bool) -> int:
    photos = image_files(source)
    if not photos:
        kinds, found = " ".join(sorted(image_suffixes())), unread_files(source) or "none"
        raise GSplatLocError(f"expected photos ({kinds}) in {source}, found {found}: check --input")

    if unread := unread_files(source):
        log(f"{source}: left out {unread}", quiet, sys.stderr)
    photos, originals = _without_copies(photos)

    def copy(photo: Path) -> Path | None:
        """The photo if it is damaged."""
        name = _NOT_UTF8.sub(
            lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", photo.relative_to(source).as_posix()
        )
        kind = photo.suffix.lower()
        ending = "" if kind in _KEPT_FORMATS else ".jpg" if kind in HEIF_SUFFIXES else ".png"
        try:
            _copy_upright(photo, target / f"{name}{ending}", max_side)
        except DamagedImageError:
            if len(photos) == 1:
                raise
            return photo
        return None

    broken = [photo for photo in for_each(copy, photos, "photos", quiet) if photo]
    if len(broken) == len(photos):
        _copy_upright(broken[0], target / "none", max_side)  # raises the error of that file
    kept = len(photos) - len(broken)
    copies = [photo for photo, original in originals.items() if original not in broken]
    broken += [photo for photo, original in originals.items() if original in broken]
    for left_out, what in ((copies, "copies of other photos"), (broken, "photos that are damaged")):
        if left_out:
            example = quoted(left_out[0].name)
            log(f"{source}: left out {len(left_out)} {what}, as {example}", quiet, sys.stderr)
    return kept


def _without_copies(photos: Sequence[Path]) -> tuple[list[Path], dict[Path, Path]]:
    """The photos with contents of their own, the first by name of each, and the others with theirs."""
    sizes = Counter(photo.stat().st_size for photo in photos)
    seen, originals = dict[bytes, Path](), dict[Path, Path]()
    for photo in photos:
        if sizes[photo.stat().st_size] > 1:
            original = seen.setdefault(sha256(photo.read_bytes()).digest(), photo)
            if original != photo:
                originals[photo] = original
    return [photo for photo in photos if photo not in originals], originals


def _copy_upright(photo: Path, target: Path, max_side: int) -> None:
    """Write the photo upright, with its EXIF data, from which COLMAP takes the initial focal length."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with decoding_image(photo):
        with open_image(photo) as opened:
            exif = opened.getexif()
            exif.get_ifd(EXIF_IFD)  # read now: the file is closed when it is saved
            fits = opened.mode == "RGB" and max(opened.size) <= max_side
            fits &= opened.format == _KEPT_FORMATS.get(target.suffix.lower())
        orientation = exif.pop(ORIENTATION, 1)
        upright = Image.fromarray(decode_upright(photo))
        if fits and orientation == 1:
            with writing(target):  # as it is: an encoder would lose some of it
                shutil.copyfile(photo, target)
            return
        upright.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        with writing(target):
            upright.save(target, quality=_JPEG_QUALITY, exif=exif)


def _collect_frames(video: Path, target: Path, count: int, max_side: int, quiet: bool) -> int:
    """Divide the video into `count` equal segments and keep the sharpest frame of each."""
    capture = open_video(video)
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if total <= 0:
        with video.open("rb") as file:
            pointer = pointer_of_git_lfs(file.read(64))
        raise GSplatLocError(
            f"expected a video in {video}, found {pointer or 'none that can be decoded: convert it to .mp4'}"
        )
    target.mkdir(parents=True, exist_ok=True)
    best: dict[int, float] = {}
    read = 0
    for index in progress(range(total), desc="frames", quiet=quiet):
        decoded, frame = capture.read()
        if not decoded:  # the frame count of a container may be too large
            break
        read = index + 1
        segment = index * min(count, total) // total
        sharpness = _sharpness(frame)
        if sharpness > best.get(segment, -1.0):
            best[segment] = sharpness
            _write_frame(target / f"frame_{segment:05d}.jpg", frame, max_side)
    capture.release()
    if not best:
        raise GSplatLocError(
            f"expected a video in {video}, found that no frame of it can be decoded: convert it to .mp4"
        )
    if read < _LEAST_DECODED * total:
        log(
            f"warning: {video} is damaged or cut: {read} of its {total} frames were decoded",
            stream=sys.stderr,
        )
    return len(best)


def _sharpness(frame: np.ndarray) -> float:
    """Variance of the Laplacian: it falls with motion blur."""
    height, width = frame.shape[:2]
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    size = _SHARPNESS_WIDTH, max(1, round(height * _SHARPNESS_WIDTH / width))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


def _write_frame(path: Path, frame: np.ndarray, max_side: int) -> None:
    height, width = frame.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = frame if scale == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    write_frame(path, small)
