"""Output of the commands: progress bars, log lines, one-line errors and exit codes."""

import errno
import io
import math
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NoReturn, TextIO, TypeVar

from gsplatloc.utils import signals
from gsplatloc.utils.errors import GSplatLocError, quoted

Item = TypeVar("Item")

# Errors of the operating system that a user can correct: permissions, space, a file instead of a folder.
_USER_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR,
                errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE}  # fmt: skip
_MEMORY_TEXTS = ("allocate memory", "out of memory", "Insufficient memory", "failed to map segment",
                 "bad_alloc")  # fmt: skip
_STDERR = 2  # file descriptor
_TICK_S = 0.5  # between two drawings of a stopwatch
_SMALLEST = 1e-12  # number that is not printed as zero
EXIT_USER_ERROR = 1  # an error that the user can correct
EXIT_USAGE = 2  # wrong flags; tyro's exit code, too


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run the `main` of a command and exit: 0 on success, 1 and one line on stderr for a user's error.

    Argument parsing itself exits with 2 for wrong usage; a signal ends the command with 128 + its number.
    Any other exception is a bug with a traceback.
    """
    _prepare_streams()
    with signals.ending_signals():
        code = _exit_code(main)
        if code and signals.was_received():
            signals.leave(code)
    sys.exit(code)


def _prepare_streams() -> None:
    """Make stdout and stderr take any text, also where they are closed or their encoding is ASCII.

    A file that is opened later must not get the number of a closed stream, to which native code writes.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as stop:
        if not signals.was_received():
            raise
        return stop.code if isinstance(stop.code, int) else EXIT_USER_ERROR
    except BaseException as error:
        # A library may turn an interrupt into another exception.
        if signals.was_received() or isinstance(error, KeyboardInterrupt):
            return _failed(signals.ending(), signals.exit_code())
        if isinstance(error, GSplatLocError):
            return _failed(f"error: {' '.join(str(error).split())}")
        if isinstance(error, BrokenPipeError):  # the reader of our output ended, as in `train.py ... | head`
            sys.stderr.close()
            return EXIT_USER_ERROR
        if isinstance(error, OSError) and error.errno in _USER_ERRNOS:
            return _failed(f"error: {error.strerror}: {error.filename or 'check the disk'}")
        if _is_out_of_memory(error):
            return _failed(
                f"error: expected enough memory, found that it ran out ({quoted(error) or 'MemoryError'}):"
                " close other programs, or use smaller or fewer images"
            )
        raise
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory could not be allocated, as Python, torch, OpenCV and the system's loader report it."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _MEMORY_TEXTS)


def _failed(line: str, code: int = EXIT_USER_ERROR) -> int:
    with suppress(OSError):  # of a terminal that was closed
        print(line, file=sys.stderr, flush=True)
    return code


def progress(
    iterable: Iterable[Item], total: int | None = None, desc: str = "", quiet: bool = False
) -> Generator[Item, None, None]:
    """Iterate with a progress bar on stderr; `quiet` iterates silently."""
    yield from _bar(iterable, total=total, desc=desc, disable=quiet)


def _bar(iterable: Iterable[Item] | None = None, **options: Any) -> Any:
    """A progress bar, drawn every half second on a terminal, and every 30 s in a log file."""
    from tqdm import tqdm  # here and below: --help and a user's error do not need it

    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(iterable, dynamic_ncols=True, mininterval=interval, **options)


@contextmanager
def stopwatch(desc: str, quiet: bool = False) -> Iterator[None]:
    """Show the seconds of a step of another library that reports no progress; nothing in a log file."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    ended = Event()

    def show() -> None:
        while not ended.wait(_TICK_S):
            bar.refresh()

    with _bar(desc=desc, bar_format="{desc}: {elapsed}", leave=False) as bar:
        thread = Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class ProgressBar:
    """A progress bar with figures, for loops that do not iterate over a sequence."""

    def __init__(self, total: int, desc: str, initial: int = 0, quiet: bool = False) -> None:
        self._bar = _bar(total=total, desc=desc, initial=initial, disable=quiet)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, note: str = "") -> None:
        """Advance by one step; a note is shown behind the bar, which takes the rest of the width."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()


def log(message: str, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Print a line above the progress bar, if one is on the screen; nothing if there is no message."""
    if message and not quiet:
        from tqdm import tqdm

        tqdm.write(message, file=stream or sys.stdout)


def figures(value: float, digits: int = 3) -> str:
    """A number of so many significant digits, never with an exponent: people and sorted tables read it."""
    if not math.isfinite(value) or abs(value) < _SMALLEST:
        return f"{value:.0f}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def length(value: float, metric: bool, digits: int = 3) -> str:
    """A length with its unit: centimetres, or `units` of a map whose scale is arbitrary."""
    return f"{figures(100 * value, digits)} cm" if metric else f"{figures(value, digits)} units"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 image`, `2 images`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
