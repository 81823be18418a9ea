"""Files are written under a temporary name and renamed when complete, so that none is ever incomplete."""

import codecs
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gsplatloc.utils.errors import GSplatLocError, pointer_of_git_lfs, quoted
from gsplatloc.utils.locks import check_locks, temporary_path

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')  # in a file name on one system or another
_NAME_BYTES = 120  # of each part of a name: file systems allow 255, and temporary names are longer
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
_MAX_PARTS = 8  # folders of a name, the file included
_IMAGE_ENDING = re.compile(r"\.[A-Za-z]\w{1,4}$")  # .png, but not the decimals of a time


def output_path(folder: Path | str, name: str, ending: str, taken: set[Path] | None = None) -> Path:
    """Where to write the file that belongs to `name`, always inside `folder`, with `ending` for its suffix.

    Every name that is read from a file (a pose file, a map, a model) is made safe here: `..`, drives, leading
    slashes and control characters are removed, and long names are cut. A path in `taken` is not returned
    again.
    """
    parts = [_safe_part(part) for part in re.split(r"[/\\]", _IMAGE_ENDING.sub("", name))]
    kept = [part for part in parts if part][-_MAX_PARTS:] or ["unnamed"]
    folder = Path(folder).joinpath(*kept[:-1])
    path, number = folder / (kept[-1] + ending), 1
    while taken is not None and path in taken:
        number += 1
        path = folder / f"{kept[-1]}-{number}{ending}"
    if taken is not None:
        taken.add(path)
    return path


def _safe_part(part: str) -> str:
    part = _FORBIDDEN.sub("_", part).strip(" ")
    part = part.encode()[:_NAME_BYTES].decode(errors="ignore")
    return "" if set(part) <= {"."} else part


def expanded(path: Path | str) -> Path:
    """`path` with a home folder in place of `~` or `~user`; raises `GSplatLocError` if there is none."""
    text = os.path.expanduser(path)
    if text.startswith("~") and not os.path.lexists(text):
        raise GSplatLocError(f"expected a home folder for {quoted(path)}, found none: pass the whole path")
    return Path(text)


@contextmanager
def atomic_path(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; renamed to `path` if the body succeeds, deleted otherwise.

    `durable`: the file is on the disk, not in the system's memory only, before it replaces another one. This
    costs milliseconds; without it a power failure may leave an empty file. Raises `GSplatLocError` as
    `writing` does.
    """
    path = Path(path)
    temporary = temporary_path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                mode = os.fstat(file.fileno()).st_mode  # by the umask
            yield temporary
            with suppress(PermissionError):  # of file systems without modes
                temporary.chmod(stat.S_IMODE(mode))  # safetensors writes files that only their owner can read
            if durable:
                _flush(temporary)
            check_locks(path)
            temporary.replace(path)
            if durable:
                _flush(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the system in the body, which writes `path`, into a `GSplatLocError` that names it.

    Such errors are a full or read-only disk, missing permission, and a folder that was removed.
    """
    check_locks(path)
    try:
        yield
    except GSplatLocError:
        raise
    except Exception as error:
        check_locks(path)
        code = _system_error(error)
        if code is None:
            raise
        action = "free some space" if code in _NO_SPACE else "choose another folder, or correct this one"
        raise GSplatLocError(f"expected to write {path}, found: {os.strerror(code)}; {action}") from None


def _system_error(error: Exception) -> int | None:
    """The error number of the operating system, also from within safetensors; None for other errors."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)|\bOs \{ code: (\d+)", str(error))  # as Rust prints it
    return int(found[1] or found[2]) if found else None


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; where the file system offers that."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise
        finally:
            os.close(handle)


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """`path` for libraries that crash at a name that is not UTF-8: a link replaces such a path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / f"link{path.suffix.encode(errors='ignore').decode()}"
            link.symlink_to(path.resolve())
            yield str(link)
        return
    yield str(path)


def write_bytes(path: Path | str, data: bytes, durable: bool = True) -> None:
    """Write `data`, atomically."""
    with atomic_path(path, durable) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str, durable: bool = True) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path, durable) as temporary:
        # File names that are not UTF-8 are in `text` as lone surrogates.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Infinite numbers are written as null: JSON has none."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or broken one is a `GSplatLocError` that names it.

    A byte order mark is skipped. Numbers too long for Python, and lists too deep for it, are errors.
    """
    try:
        return json.loads(read_text(path, "a JSON file"))
    except RecursionError:
        raise _no_json(path, "lists or objects nested too deeply") from None
    except ValueError as error:
        raise _no_json(path, error) from None


def read_text(path: Path | str, expected: str = "a text file", action: str = "check the path") -> str:
    """Read UTF-8, or UTF-16 with a byte order mark; a missing or other file is a `GSplatLocError`."""
    try:
        data = Path(path).read_bytes()
        if (pointer := pointer_of_git_lfs(data)) is not None:
            raise GSplatLocError(f"expected {expected} {path}, found {pointer}")
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except FileNotFoundError:
        raise GSplatLocError(f"expected {expected} {path}, found none: {action}") from None
    except UnicodeDecodeError as error:
        raise GSplatLocError(
            f"expected {expected} {path} in UTF-8, found {quoted(error)}: save it in UTF-8, or {action}"
        ) from None
    except OSError as error:
        raise GSplatLocError(f"expected {expected} {path}, found {quoted(error)}: {action}") from None


def number_words(line: str) -> list[str]:
    """The words of a line of numbers: separated by spaces, commas or both.

    Programs of some countries write 0,5 for 0.5: so it is read where words between spaces are such numbers,
    and none has a point.
    """
    words = line.split()
    commas = [word for word in words if "," in word]
    if len(words) > 1 and commas and "." not in line and all(map(_DECIMAL_COMMA.fullmatch, commas)):
        return line.replace(",", ".").split()
    return line.replace(",", " ").split()


def _no_json(path: Path | str, found: object) -> GSplatLocError:
    return GSplatLocError(f"expected JSON in {path}, found {quoted(found)}: restore or rewrite the file")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:
        return value
    return None if isinstance(value, float) else value
