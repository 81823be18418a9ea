"""Unpack downloaded zip archives, whose entries are checked before anything is written."""

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

    Nothing is written, and `GSplatLocError` is raised, if any entry has a path outside `target`, if any is a
    link, or if the disk has too little free space; it is raised for a damaged archive, too.
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
    """Raise an error for a path outside the target folder, on any system, and for a link or a device."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
        raise GSplatLocError(
            f"expected entries inside {archive}, found {entry.filename!r}, a path outside: delete the archive"
        )
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise GSplatLocError(
            f"expected files in {archive}, found {entry.filename!r}, a link or a device: delete the archive"
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
