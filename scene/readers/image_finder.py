"""The image files that a transforms file names, wherever the scene was copied to."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gsplatloc.scene.image_files import IMAGE_SUFFIXES
from gsplatloc.scene.image_header import HEIF_SUFFIXES

# NeRF's synthetic scenes list images without suffix, as COLMAP models of Metashape do.
_IMPLIED_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG")


class ImageFinder:
    """Finds the image files that a transforms file names.

    With `--images images_2` the first folder of a name is replaced: images/left/1.jpg becomes
    images_2/left/1.jpg. A flat copy, images_2/1.jpg, is taken only if no two names end in 1.jpg.
    An image that is not where its name says, as after copying a scene from another machine, is searched
    for below the scene's folder by ever shorter ends of its name.
    """

    def __init__(self, path: Path, listed: list[str], images: str | None) -> None:
        self._path, self._images = path, images
        self._ends = Counter(PurePosixPath(name).name for name in listed)

    def find(self, listed: str) -> Path | None:
        """The file of an image; None if it is not on disk."""
        found = (image_on_disk(candidate) for candidate in self._candidates(PurePosixPath(listed)))
        return next((file for file in found if file is not None), None)

    def name(self, listed: str, file: Path) -> str:
        """The image's name in the scene: below the scene's folder, or as it is listed."""
        resolved = Path(os.path.normpath(file))
        root = Path(os.path.normpath(self._path))
        if resolved.is_relative_to(root):
            return resolved.relative_to(root).as_posix()
        return "/".join(part for part in PurePosixPath(listed).parts if part not in ("/", "..", "."))

    def _candidates(self, listed: PurePosixPath) -> Iterator[Path]:
        parts = [part for part in listed.parts if part not in ("/", ".")]
        flat_is_unique = self._ends[listed.name] == 1
        if self._images is None:
            yield self._path / listed
            ends = [parts[start:] for start in range(1, len(parts))]
            folder = self._path
        else:
            ends = [parts[start:] for start in range(min(1, len(parts) - 1), len(parts))]
            folder = self._path / self._images
        for end in ends:
            if len(end) > 1 or flat_is_unique:
                yield folder.joinpath(*end)
        if self._images is None and flat_is_unique:
            yield self._path / "images" / listed.name


def image_on_disk(path: Path) -> Path | None:
    """The image at `path`, whose suffix may be missing in that; see `file_on_disk`."""
    named = path.suffix.lower() in IMAGE_SUFFIXES | HEIF_SUFFIXES  # a.jpg.png is a mask of a.jpg
    implied = ("",) if named else _IMPLIED_SUFFIXES
    found = (file_on_disk(Path(f"{path}{suffix}")) for suffix in implied)
    return next((file for file in found if file is not None), None)


def file_on_disk(path: Path) -> Path | None:
    """The file at `path`, or the one file whose name is the same but for upper case and Unicode's form.

    Names, and those of folders, change so when files are copied between systems: macOS decomposes accents,
    Windows ignores case.
    """
    return _on_disk(path, os.path.isfile)


def _on_disk(path: Path, is_kind: Callable[[Path], bool]) -> Path | None:
    if is_kind(path):
        return path
    folder = None if path.parent == path else _on_disk(path.parent, os.path.isdir)
    if folder is None or not path.name:
        return None
    names = _names_in(folder, folder.stat().st_mtime_ns).get(_folded(path.name), [])
    found = [folder / name for name in names if is_kind(folder / name)]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=64)
def _names_in(folder: Path, _changed: int) -> dict[str, list[str]]:
    """The names in a folder by what `_folded` leaves of them; `_changed` is when one of them did."""
    names: dict[str, list[str]] = {}
    with suppress(PermissionError):
        for name in os.listdir(folder):
            names.setdefault(_folded(name), []).append(name)
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
