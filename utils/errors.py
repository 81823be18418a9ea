"""The base class of every error that a user can correct, and what turns damaged files into such errors."""

import errno
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

QUOTE_LENGTH = 200  # characters of a broken file that an error message repeats
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}  # while the content of an archive is written
_MESSAGE_LENGTH = 1000  # of a whole message: its paths may be long


class GSplatLocError(Exception):
    """An error that a user can correct: the message says what was expected, what was found, what to do.

    Commands print it on one line and exit with code 1. Any other exception is a bug and keeps its traceback.
    The message is one line of limited length without control characters, also where it quotes a file.
    """

    def __init__(self, message: object) -> None:
        super().__init__(quoted(message, _MESSAGE_LENGTH))


def quoted(found: object, length: int = QUOTE_LENGTH) -> str:
    """`found` for an error message: on one line, printable, its middle left out if it is long."""
    text = str(found)
    if len(text) > 2 * length:  # before every character is examined
        text = f"{text[:length]} ... {text[-length:]}"
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} ... {text[-half:]}"


def require_known(what: str, names: Iterable[str], known: Collection[str], action: str) -> None:
    """Raise `GSplatLocError` for the first of `names` that is not among the `known` ones."""
    for name in names:
        if name not in known:
            raise GSplatLocError(f"expected {what} out of {', '.join(known)}, found {name!r}: {action}")


def pointer_of_git_lfs(start: bytes) -> str | None:
    """What stands in the place of a file that begins so, and what to do, if it is a pointer of Git LFS."""
    is_pointer = start.startswith(b"version https://git-lfs")
    return "a pointer of Git LFS in its place: run git lfs pull" if is_pointer else None


def _pointer_in_place_of(path: Path | str) -> str | None:
    try:
        with open(path, "rb") as file:
            return pointer_of_git_lfs(file.read(64))
    except (OSError, ValueError):
        return None


@contextmanager
def decoding(expected: str, path: Path | str, action: str) -> Iterator[None]:
    """Any exception of the body, which decodes the file `path`, becomes one `GSplatLocError` that names it.

    Every exception, because decoders raise many kinds at damaged files and document none of them.
    """
    try:
        yield
    except GSplatLocError:
        raise
    except FileNotFoundError:
        raise GSplatLocError(f"expected {expected} at {path}, found none: {action}") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise
        reason = _pointer_in_place_of(path) or f"{quoted(_reason(error))}: {action}"
        raise GSplatLocError(f"expected {expected} in {path}, found {reason}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error}"
    if isinstance(error, StopIteration | EOFError):
        return str(error) or "that it ends early"
    return str(error) or ("too little memory" if isinstance(error, MemoryError) else type(error).__name__)
