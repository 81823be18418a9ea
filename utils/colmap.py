"""pycolmap, imported without its signal handlers.

Its import installs those of glog for SIGTERM and for crashes. They print a stack, allocate memory, and wait
for ever where the signal interrupted an allocation. `from gsplatloc.utils.colmap import pycolmap` leaves all
handlers as they were.
"""

import ctypes
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gsplatloc.utils import signals
from gsplatloc.utils.errors import GSplatLocError

_STRUCT_SIZE = 256  # bytes; more than a `struct sigaction` on any system
_HANDLED = ("SIGILL", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGTERM")  # by glog


@contextmanager
def _unchanged_handlers() -> Iterator[None]:
    """Put the handlers of signals back, those of C code too; signals that end the program wait meanwhile."""
    if os.name != "posix":
        yield
        return
    libc = ctypes.CDLL(None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    saved = {getattr(signal, name): ctypes.create_string_buffer(_STRUCT_SIZE) for name in _HANDLED}
    for number, action in saved.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            libc.sigaction(int(number), action, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Within the body COLMAP writes below `folder`; where it cannot, the command ends with one line.

    In its threads COLMAP does not catch exceptions, as at a full disk, which would abort the process.
    """

    def failed(reason: object) -> str:
        free = shutil.disk_usage(folder).free
        return (
            f"expected COLMAP to write its database and models in {folder}, with {free / 1e6:.3g} MB free,"
            f" found {reason}: free some space and memory, and run the command again"
        )

    @ctypes.CFUNCTYPE(None)
    def terminate() -> None:
        os.write(2, f"error: {failed('that it could not')}\n".encode())
        signals.leave(1)

    set_terminate = _cpp_function("_ZSt13set_terminatePFvvE")  # std::set_terminate
    previous = set_terminate and set_terminate(terminate)
    try:
        yield
    except RuntimeError as error:
        if "SQLite" not in str(error) and "database" not in str(error):
            raise
        raise GSplatLocError(failed(error)) from None
    finally:
        if set_terminate:
            set_terminate(ctypes.c_void_p(previous))


def _cpp_function(name: str) -> Any:
    """A function of the C++ library that returns a pointer; None on systems with another one."""
    try:
        function = getattr(ctypes.CDLL("libstdc++.so.6"), name)
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    return function


with _unchanged_handlers():
    import pycolmap as pycolmap
