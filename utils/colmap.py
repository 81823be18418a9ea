"""pycolmap, imported without its signal handlers.

Its import installs those of glog for SIGTERM and for crashes. They print a stack, allocate memory, and wait
for ever where the signal interrupted an allocation. `from gsplatloc.utils.colmap import pycolmap` leaves all
handlers as they were.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

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


with _unchanged_handlers():
    import pycolmap as pycolmap
