"""What people see of a script: a progress bar, one-line errors and exit codes."""

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TextIO, TypeVar

from tqdm import tqdm

from gsplatloc.utils.errors import GSplatLocError

Item = TypeVar("Item")

# What the operating system refuses that a user can mend: no permission, no space, a file for a folder.
_MENDABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR,
             errno.EEXIST, errno.ENAMETOOLONG}  # fmt: skip
EXIT_USER_ERROR = 1  # something the user can fix
EXIT_USAGE = 2  # wrong flags; tyro exits with it, too
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main` and exit: 0 when it ran, 1 with one line on stderr for a user's error.

    Wrong usage exits with 2 (argument parsing raises SystemExit itself). Any other exception is a bug and
    keeps its traceback.
    """
    try:
        main()
    except GSplatLocError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as in `train.py ... | head`
        sys.stderr.close()
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if error.errno not in _MENDABLE:
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
    """Seconds between two drawings of a bar: a log file wants a line now and then, not an animation."""
    return 0.5 if sys.stderr.isatty() else 30.0


class ProgressBar:
    """A progress bar that carries figures, for loops that are not plain iterations."""

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
        """One step further; the figures are shown behind the bar."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update()


def log(message: str, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Print a line without tearing a progress bar that may be on the screen."""
    if not quiet:
        tqdm.write(message, file=stream or sys.stdout)


class InterruptRequest:
    """Ctrl-C as a wish to be read at a convenient moment; a second Ctrl-C interrupts at once.

    Outside of the main thread, where signals cannot be caught, it is never set.
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
