"""Unpack zip archives, whose entries are checked before anything is written."""

import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from gsplatloc.utils.console import progress
from gsplatloc.utils.errors import GSplatLocError, quoted

_UNIX = 3  # zip's code for the system whose file mode an entry carries
_ENCRYPTED, _UTF8 = 0x1, 0x800  # flags of an entry
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # those of every public data set
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz", 98: "PPMd", 99: "encrypted"}
_MAX_ENTRIES = 1_000_000  # the largest sequence of a public data set here has 3,000
# Images hardly shrink in an archive and text shrinks 10 times; archives made to fill a disk, 1,000 times.
_MAX_RATIO = 100
_MAX_SMALL = 100 << 20  # bytes that any archive may unpack to

# What zipfile and the decompressors raise at damaged archives.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error,
    ValueError, IndexError, OverflowError, MemoryError, RuntimeError,
)  # fmt: skip


def extract(archive: Path, target: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Unpack the entries whose name is `wanted` into `target`.

    Nothing is written, and `GSplatLocError` is raised, if any entry has a path outside `target`, if any is a
    link, or if a wanted one is encrypted, compressed in a way that is not read here, or too large for the
    archive or the disk. It is raised for a damaged archive, too.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            for entry in entries:
                _check_place(entry, archive)
            chosen = [entry for entry in entries if not _name(entry).endswith("/") and wanted(_name(entry))]
            _check_sizes(chosen, archive)
            target.mkdir(parents=True, exist_ok=True)
            check_free_space(sum(entry.file_size for entry in chosen), target)
            for entry in progress(chosen, desc=f"unpacking {archive.name}"):
                _extract_entry(opened, entry, target)
    except _DAMAGE as error:
        raise _damaged(archive, str(error) or type(error).__name__) from None
    except OSError as error:
        # A position that does not exist, a folder, a link to itself: anything else is the system's.
        if error.errno not in (errno.EINVAL, errno.EISDIR, errno.ELOOP):
            raise
        raise _damaged(archive, error) from None


def check_free_space(needed: int, folder: Path, remedy: str = "name another --output") -> None:
    """Raise `GSplatLocError` if the disk of `folder` has less than `needed` bytes of free space."""
    disk = shutil.disk_usage(folder)
    if needed > disk.free and disk.total:  # some network drives do not know their size
        raise GSplatLocError(
            f"expected {needed / 1e9:.3g} GB of free space in {folder}, found {disk.free / 1e9:.3g} GB: free"
            f" some, or {remedy}"
        )


def _name(entry: zipfile.ZipInfo) -> str:
    """The path of an entry with `/` between its parts, a folder's at its end, too.

    Some programs of Windows write `\\` instead. macOS and others write UTF-8 without the flag that says so,
    which zipfile takes for code page 437.
    """
    name = entry.filename
    if not entry.flag_bits & _UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name if entry.create_system == _UNIX else name.replace("\\", "/")


def _check_place(entry: zipfile.ZipInfo, archive: Path) -> None:
    """Raise an error for a path outside the target folder, on any system, and for a link or a device."""
    path = PurePosixPath(_name(entry).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename or not path.parts:
        raise _refused(
            archive, "entries inside the archive", f"the path {entry.filename!r}, which is outside"
        )
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(archive, "files", f"{entry.filename!r}, a link or a device")


def _check_sizes(entries: list[zipfile.ZipInfo], archive: Path) -> None:
    """Raise an error for entries that cannot be read, and for more data than the archive can hold."""
    size = archive.stat().st_size
    if len(entries) > _MAX_ENTRIES:
        raise _refused(archive, f"at most {_MAX_ENTRIES:,} files", f"{len(entries):,}")
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            raise _refused(
                archive, "files that can be read without a password", f"{entry.filename!r} encrypted"
            )
        if entry.compress_type not in _METHODS:
            method = _OTHER_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
            raise _refused(archive, "files stored or compressed by deflate", f"{entry.filename!r} ({method})")
        if entry.compress_size > size:
            raise _damaged(archive, f"{entry.filename!r} longer than the archive")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_MAX_SMALL, _MAX_RATIO * size):
        raise _refused(
            archive, f"at most {_MAX_RATIO} times the archive's {size} bytes", f"{unpacked} bytes to unpack"
        )


def _extract_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    path = target / PurePosixPath(_name(entry))
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, path.open("wb") as destination:
        shutil.copyfileobj(source, destination)


def _refused(archive: Path, expected: str, found: object) -> GSplatLocError:
    return GSplatLocError(f"expected {expected} in {archive}, found {quoted(found)}: replace the archive")


def _damaged(archive: Path, found: object) -> GSplatLocError:
    return GSplatLocError(f"expected a whole zip archive in {archive}, found {quoted(found)}: replace it")
