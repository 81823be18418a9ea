"""Files that are made from one file of a recording, beside it: an unpacked archive, frames of a video."""

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from gsplatloc.utils.archives import extract
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.locks import output_folder

_MARKER = ".unpacked.json"  # written last into such a folder: of which file it was made, and how


def is_archive(path: Path) -> bool:
    """Whether `path` is a zip archive, as .r3d files are."""
    return path.suffix.lower() in (".zip", ".r3d") and path.is_file()


def unpacked(archive: Path) -> Path:
    """The folder of the files in a zip archive, which is unpacked unless that was done before."""
    return made_beside(archive, {}, lambda folder: extract(archive, folder))


def made_beside(source: Path, settings: dict[str, Any], make: Callable[[Path], None]) -> Path:
    """The folder `NAME.unpacked` beside the file `source`, which `make` fills unless it did so before.

    It is made anew if the file changed or if it was made with other `settings`. Where the file's folder
    cannot be written, it is in the user's cache folder.
    """
    source, stat = source.resolve(), source.stat()
    settings = settings | {"bytes": stat.st_size, "modified": stat.st_mtime_ns}
    target = _place(source)
    if target.is_dir() and _settings_of(target) == settings:
        return target
    if target.exists() and not (target / _MARKER).is_file():
        raise GSplatLocError(
            f"expected no {target}, or one made of {source.name}, found another: move it away"
        )
    with output_folder(target.with_name(f".{target.name}.unfinished")) as work:
        folder = work / "files"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        try:
            make(folder)
            write_json(folder / _MARKER, settings)
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target


def _place(source: Path) -> Path:
    name = f"{source.name}.unpacked"
    if os.access(source.parent, os.W_OK):
        return source.with_name(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gsplatloc"
    return cache / sha256(os.fsencode(source)).hexdigest()[:16] / name


def _settings_of(folder: Path) -> Any:
    """The record of what a folder was unpacked from; None if it cannot be read."""
    try:
        return read_json(folder / _MARKER)
    except GSplatLocError:
        return None
