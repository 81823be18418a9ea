"""Which files of a folder are images, and which are pictures that are not read."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gsplatloc.scene.image_header import HEIF_SUFFIXES, INSTALL_HEIF, reads_heif
from gsplatloc.utils.errors import quoted

# .jfif and .jpe are JPEGs, as some browsers save them; .mpo of cameras with two lenses begins as one.
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp",
})  # fmt: skip
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})
# Pictures that are not read: phones' own formats, raw files of cameras, documents, videos, archives.
_UNREAD_SUFFIXES = VIDEO_SUFFIXES | {
    ".avif", ".jxl", ".gif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw", ".jp2",
    ".srw", ".pef", ".3fr", ".iiq", ".x3f", ".nrw", ".jpf", ".jpx", ".j2k", ".apng", ".pnm", ".ppm", ".pgm",
    ".exr", ".hdr", ".tga", ".psd", ".ico", ".svg", ".pdf", ".insp", ".insv", ".lrv", ".3gp", ".mts", ".zip",
}  # fmt: skip
_NO_PICTURES = frozenset({"__MACOSX", "@eaDir"})  # folders of other systems with copies of names or of images


def image_suffixes() -> frozenset[str]:
    """Endings of the names of images that are read, in lower case."""
    return IMAGE_SUFFIXES | HEIF_SUFFIXES if reads_heif() else IMAGE_SUFFIXES


def image_files(folder: Path) -> list[Path]:
    """Every image under `folder`, sorted; see `_visible_files`."""
    suffixes = image_suffixes()
    return sorted(path for path in _visible_files(folder) if path.suffix.lower() in suffixes)


def unread_files(folder: Path) -> str:
    """Pictures and videos under `folder` in formats that are not read, for a message; empty if none.

    For example `3 .heic and 1 .dng files, for example IMG_1.HEIC (pip install ...)`.
    """
    unread = _UNREAD_SUFFIXES | HEIF_SUFFIXES - image_suffixes()
    found = sorted(path for path in _visible_files(folder) if path.suffix.lower() in unread)
    if not found:
        return ""
    suffixes = Counter(path.suffix.lower() for path in found)
    counts = " and ".join(f"{count} {kind}" for kind, count in sorted(suffixes.items()))
    action = INSTALL_HEIF if HEIF_SUFFIXES & suffixes.keys() else "convert them"
    return f"{counts} files, for example {quoted(found[0].name)} ({action})"


def _visible_files(folder: Path) -> Iterator[Path]:
    """Every file under `folder`, also in folders that links lead to, each folder once.

    Without hidden files and folders: macOS writes `._name.jpg`, which is no image, others keep thumbnails.
    """
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link to a folder that was there already, or around it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in _NO_PICTURES)
        paths = (Path(root, name) for name in files if name[0] != ".")
        yield from (path for path in paths if path.is_file())
