"""Ctrl-C, SIGTERM and SIGHUP end a command with one line and the exit code 128 + number of the signal.

Python calls its signal handlers between two bytecodes of the main thread, and not while native code works:
for minutes in COLMAP. Therefore a thread reads the signals as well, and ends the process if the main thread
has not ended `GRACE_S` later. What the main thread would have cleaned up is left to the next run.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

GRACE_S = 4.0  # seconds from a signal to the end of the process, wherever it is
_FINISHING_S = 60.0  # instead, where results are being saved because of the signal
_REPEATED_S = 0.3  # signals within this time are one request: `timeout` sends each of them twice
_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    _NAMES[signal.SIGHUP] = "terminated: the terminal was closed"


class Interrupted(KeyboardInterrupt):
    """A signal that asks the program to end, in the main thread."""


class _Received:
    """The first signal since the command began."""

    number: int = signal.SIGINT
    time: float | None = None  # seconds of the monotonic clock; None = no signal
    finishing = 0  # number of entered `finishing()`
    saving = False  # whether an `InterruptRequest` is waiting for a signal, or has noted one


def exit_code() -> int:
    """The exit code of a command that a signal ended, as shells report it: 130 on Ctrl-C, 143 on SIGTERM."""
    return 128 + _Received.number


def ending() -> str:
    """One line about the signal that ends the command."""
    return _NAMES.get(signal.Signals(_Received.number), "terminated")


def was_received() -> bool:
    """Whether a signal has asked the command to end."""
    return _Received.time is not None


@contextmanager
def finishing() -> Iterator[None]:
    """Give the body, which saves results after a signal, 60 seconds instead of 4."""
    _Received.finishing += 1
    try:
        yield
    finally:
        _Received.finishing -= 1


def _is_new(number: int) -> bool:
    """Record the signal; False if it repeats the one before."""
    now = time.monotonic()
    if _Received.time is None:
        _Received.number, _Received.time = number, now
        return True
    return now - _Received.time > _REPEATED_S


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if _is_new(number):
        raise Interrupted


@contextmanager
def ending_signals() -> Iterator[None]:
    """Within the body, ending signals raise `Interrupted` in the main thread, and end the process in time.

    Signals that the parent process chose to ignore, as `nohup` does, stay ignored.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Received.time, _Received.saving = None, False
    heeded = [number for number in _NAMES if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    # The thread inherits the mask: a signal that it handled would not interrupt a waiting main thread.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, heeded)
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(receiver, ended, heeded), name="signals", daemon=True)
    thread.start()
    wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, _interrupt) for number in heeded}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        ended.set()
        sender.close()
        thread.join()
        receiver.close()


def _watch(receiver: socket.socket, ended: threading.Event, heeded: list[signal.Signals]) -> None:
    """End the process some time after one of the `heeded` signals arrives, unless `ended` is set before."""
    number, first, last = 0, float("inf"), float("inf")  # times of the first request and of a repeated one
    while not ended.is_set():
        with suppress(TimeoutError):
            received = [byte for byte in receiver.recv(64) if byte in heeded]
            now = time.monotonic()
            if received and not number:
                number, first = received[0], now
                receiver.settimeout(0.05)
            elif received and now - first > _REPEATED_S:
                last = min(last, now)
        grace = _FINISHING_S if _Received.finishing or _Received.saving else GRACE_S
        if time.monotonic() > min(first + grace, last + _REPEATED_S):
            _end(number)


def _end(number: int) -> None:
    """End the process although its main thread is busy."""
    _Received.number = number
    with suppress(OSError):
        os.write(2, f"{ending()}\n".encode())
    leave(exit_code())


def leave(code: int) -> NoReturn:
    """End the process at once: unloading large libraries takes long, and waits for their threads."""
    flushing = threading.Thread(target=_flush, daemon=True)  # another thread may hold the stream's lock
    flushing.start()
    flushing.join(0.3)
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


class InterruptRequest:
    """Records the first ending signal in `requested`, for a loop to read; a second one interrupts at once.

    From the signal on, the loop has 60 seconds instead of 4 to finish its step and save its results.
    Signals that would not raise `KeyboardInterrupt` belong to the program that calls this library and stay as
    they are. Outside of the main thread, where signals cannot be caught, `requested` stays False.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "InterruptRequest":
        if threading.current_thread() is threading.main_thread():
            _Received.time = None
            raising = (_interrupt, signal.default_int_handler)
            caught = [number for number in _NAMES if signal.getsignal(number) in raising]
            self._previous = {number: signal.signal(number, self._note) for number in caught}
            _Received.saving = bool(caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        _Received.saving = self.requested

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not _is_new(number):
            return
        if self.requested:
            raise Interrupted
        self.requested = True
