"""Unpacking zip archives from the net without trusting them."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError

_UNIX = 3  # zip's code for the system whose file mode an entry carries


def extract(archive: Path, target: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Unpack the entries whose name is `wanted` into `target`.

    Every entry is checked before the first is written: an archive with one that would leave `target`, or
    that is a link, is refused whole with a `GSplatLocError`; so is a damaged one, or one too large for
    the disk.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                _check_entry(entry, archive)
            chosen = [entry for entry in opened.infolist() if not entry.is_dir() and wanted(entry.filename)]
            target.mkdir(parents=True, exist_ok=True)
            _check_room(sum(entry.file_size for entry in chosen), target)
            for entry in progress(chosen, desc=f"unpacking {archive.name}"):
                _extract_entry(opened, entry, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise GSplatLocError(
            f"expected a whole zip archive in {archive}, found {error}: delete it and run again"
        ) from None


def _check_entry(entry: zipfile.ZipInfo, archive: Path) -> None:
    """Refuse names that lead elsewhere, on any system, and links, whose target would be followed later."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
        raise GSplatLocError(
            f"expected entries inside {archive}, found {entry.filename!r}, which leaves it: do not trust it"
        )
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise GSplatLocError(
            f"expected files in {archive}, found {entry.filename!r}, a link or a device: do not trust it"
        )


def _check_room(needed: int, target: Path) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise GSplatLocError(
            f"expected {needed / 1e9:.1f} GB of free space in {target}, found {free / 1e9:.1f} GB: free some,"
            " or name another --output"
        )


def _extract_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    path = target / PurePosixPath(entry.filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, path.open("wb") as destination:
        shutil.copyfileobj(source, destination)
