"""Output of the commands: progress bars, log lines, one-line errors and exit codes."""

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TextIO, TypeVar

from tqdm import tqdm

from gsplatloc.utils.errors import GSplatLocError

Item = TypeVar("Item")

# Errors of the operating system that a user can correct: permissions, space, a file instead of a folder.
_USER_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR,
                errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}  # fmt: skip
EXIT_USER_ERROR = 1  # an error that the user can correct
EXIT_USAGE = 2  # wrong flags; tyro's exit code, too
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run the `main` of a command and exit: 0 on success, 1 and one line on stderr for a user's error.

    Argument parsing itself exits with 2 for wrong usage. Any other exception is a bug with a traceback.
    """
    try:
        main()
    except GSplatLocError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the program that reads our output ended, as in `train.py ... | head`
        sys.stderr.close()
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        print(f"error: {error.strerror}: {error.filename or 'check the disk'}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    sys.exit(0)


def progress(
    iterable: Iterable[Item], total: int | None = None, desc: str = "", quiet: bool = False
) -> Iterator[Item]:
    """Iterate with a progress bar on stderr; `quiet` iterates silently."""
    yield from tqdm(
        iterable, total=total, desc=desc, disable=quiet, dynamic_ncols=True, mininterval=_redraw_interval()
    )


def _redraw_interval() -> float:
    """Seconds between two drawings of a progress bar: half a second on a terminal, 30 s in a log file."""
    return 0.5 if sys.stderr.isatty() else 30.0


class ProgressBar:
    """A progress bar with figures, for loops that do not iterate over a sequence."""

    def __init__(self, total: int, desc: str, initial: int = 0, quiet: bool = False) -> None:
        interval = _redraw_interval()
        self._bar = tqdm(
            total=total, desc=desc, initial=initial, disable=quiet, dynamic_ncols=True, mininterval=interval
        )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, **figures: str) -> None:
        """Advance by one step; the figures are shown behind the bar."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update()


def log(message: str, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Print a line above the progress bar, if one is on the screen; nothing if there is no message."""
    if message and not quiet:
        tqdm.write(message, file=stream or sys.stdout)


class InterruptRequest:
    """Records the first Ctrl-C in `requested`, for the loop to read; a second one interrupts at once.

    Outside of the main thread, where signals cannot be caught, `requested` stays False.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "InterruptRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, *_: object) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
