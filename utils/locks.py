"""Output folders: one run at a time writes into one, and removes what a killed run left there.

The lock is the operating system's, on a file in the folder. The system releases it when the process ends, for
whatever reason, so that nobody has to remove a lock by hand.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gsplatloc.utils.errors import GSplatLocError, quoted

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"
_OWNER_BYTES = 200  # of the lock file that are read
_OLD_S = 86400.0  # seconds after which no living run writes to a temporary file any more
# Ours, and those that safetensors makes beside the file that it writes.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.(unfinished|unlocked)(\.\w+)?|\.tmp[A-Za-z0-9]{6}")

_held: dict[Path, int] = {}  # locked folder, absolute -> descriptor of its lock file


@contextmanager
def output_folder(folder: Path | str) -> Iterator[Path]:
    """Make `folder`, keep other runs out of it within the body, and remove a killed run's temporary files.

    Raises `GSplatLocError` if it cannot be written, or if another run writes into it.
    """
    folder = Path(os.path.abspath(folder))
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _lock(folder)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise GSplatLocError(
            f"expected a folder {folder} that can be written, found {reason}; choose another"
        ) from None
    _held[folder] = handle
    try:
        sweep(folder, locked=True)
        yield folder
    finally:
        del _held[folder]
        with suppress(OSError):
            if _is_open(folder, handle):
                (folder / _NAME).unlink()
            if is_new:
                folder.rmdir()  # fails if it is not empty
        os.close(handle)


def check_locks(path: Path) -> None:
    """Raise `GSplatLocError` if a folder of `path` that was locked is gone, or is another one by now.

    Without this check a new folder of the same name would be made, with a part of the results only.
    """
    for folder, handle in _locks_above(path):
        if not _is_open(folder, handle):
            raise GSplatLocError(
                f"expected the output folder {folder}, found that it was removed or replaced during this run:"
                " run the command again"
            )


def temporary_path(path: Path) -> Path:
    """A new name for an unfinished `path`, in the same folder; `sweep` recognises it."""
    kind = "unfinished" if _locks_above(path) else "unlocked"
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}.{kind}{path.suffix}")


def sweep(folder: Path, locked: bool = False) -> None:
    """Delete temporary files that killed runs left below `folder`: old ones, and if it is locked, all.

    Folders below that have locks of their own are left to those who lock them.
    """
    for parent, children, names in os.walk(folder):
        if parent != str(folder) and _NAME in names:
            children.clear()
            continue
        for name in names:
            kind = _TEMPORARY.fullmatch(name)
            path = Path(parent, name)
            with suppress(OSError):
                if kind and ((locked and kind[1] != "unlocked") or _age_s(path) > _OLD_S):
                    path.unlink()


def _lock(folder: Path) -> int:
    """The descriptor of the folder's lock file, locked, with this process as its owner."""
    while True:
        handle = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _acquire(folder, handle)
            if _is_open(folder, handle):  # else its last owner has just removed it
                os.ftruncate(handle, 0)
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
                with suppress(OSError, AttributeError):  # Windows has no fchmod before Python 3.13
                    os.fchmod(handle, 0o666)  # what a killed run leaves must not keep other users out
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _acquire(folder: Path, handle: int) -> None:
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    except BlockingIOError:
        raise _busy(folder, handle) from None
    except OSError:  # the file system has no locks
        pass
    owner = re.match(r"process (\d+) on (.+) since ", _owner(handle))
    if owner and owner[2] == socket.gethostname() and _is_alive(int(owner[1])):
        raise _busy(folder, handle)


def _busy(folder: Path, handle: int) -> GSplatLocError:
    owner = quoted(_owner(handle)) or "another process"
    return GSplatLocError(
        f"expected no other run that writes into {folder}, found {owner}: wait for it, or choose another"
    )


def _owner(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, _OWNER_BYTES).decode(errors="replace")


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine is running; False where asking would end it (Windows)."""
    if os.name != "posix" or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True


def _is_open(folder: Path, handle: int) -> bool:
    """Whether the folder's lock file is the one that was opened."""
    try:
        return os.path.samestat(os.stat(folder / _NAME), os.fstat(handle))
    except OSError:
        return False


def _locks_above(path: Path) -> list[tuple[Path, int]]:
    absolute = Path(os.path.abspath(path))
    return [(folder, handle) for folder, handle in _held.items() if absolute.is_relative_to(folder)]


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
