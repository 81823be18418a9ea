"""Signals end a command with one line, wherever it is; in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
BUSY = {
    "sleep": "time.sleep(60)",
    "python": "while True: pass",
    "native code": "import ctypes; ctypes.CDLL(None).sleep(60)",
    "a library that keeps the interrupt to itself": """
while True:
    try: time.sleep(60)
    except BaseException: pass
""",
    "an exception made of the interrupt": """
try: time.sleep(60)
except BaseException: raise ImportError("initialization failed")
""",
    "clean-up": """
try: time.sleep(60)
finally: time.sleep(60)
""",
}
COMMAND = """
import sys, time
from gsplatloc.utils import signals
from gsplatloc.utils.console import run_script
signals.GRACE_S = 1.0
def main():
    print("ready", flush=True)
    print("buffered", end="")
    exec(sys.argv[1])
run_script(main)
"""


def start(body: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, body],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.wait(timeout=30)
    assert process.stdout is not None and process.stderr is not None
    return process.returncode, process.stdout.read() + process.stderr.read()


@pytest.mark.parametrize("body", BUSY.values(), ids=BUSY)
def test_sigterm_ends_a_command_wherever_it_is(body: str) -> None:
    process = start(body)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, "bufferedterminated\n")


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGHUP, 129, "terminated: the terminal was closed")],
)
@pytest.mark.parametrize("body", ["time.sleep(60)", BUSY["native code"]])
def test_other_signals_have_their_own_line_and_code(number: int, code: int, line: str, body: str) -> None:
    process = start(body)
    process.send_signal(number)
    assert ended(process) == (code, f"buffered{line}\n")


def test_a_signal_that_is_sent_twice_at_once_is_one(tmp_path: Path) -> None:
    """`timeout` sends to the process and to its group."""
    done = tmp_path / "done"
    process = start(f"""
try: time.sleep(60)
finally:
    time.sleep(0.2)
    open({str(done)!r}, "w")
""")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143 and done.exists()


def test_a_second_signal_ends_at_once() -> None:
    process = start("signals.GRACE_S = 60\n" + BUSY["native code"])
    process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, "bufferedterminated\n")


def test_what_is_finished_because_of_a_signal_has_more_time(tmp_path: Path) -> None:
    done = tmp_path / "done"
    process = start(f"""
try: time.sleep(60)
finally:
    with signals.finishing():
        time.sleep(2)
        open({str(done)!r}, "w")
""")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143 and done.exists()


@pytest.mark.parametrize(
    "step", ["time.sleep(2)", "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 6_000_000)"]
)
def test_a_loop_that_saves_on_request_may_finish_a_long_step(tmp_path: Path, step: str) -> None:
    done = tmp_path / "done"
    process = start(f"""
with signals.InterruptRequest() as request:
    while not request.requested:
        {step}
time.sleep(0.3)
open({str(done)!r}, "w")
time.sleep(60)
""")
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 20
    while not done.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.exists()
    process.kill()
    process.communicate()


def test_signals_that_the_parent_ignores_stay_ignored() -> None:
    process = subprocess.run(
        [sys.executable, "-c", f"""
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
{COMMAND}""", "import os; os.kill(os.getpid(), 1); print('alive')"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (0, "ready\nbufferedalive\n")


def test_a_loop_reads_the_request_and_a_second_signal_interrupts() -> None:
    body = """
import os
with signals.InterruptRequest() as request:
    os.kill(os.getpid(), 15); os.kill(os.getpid(), 15)
    assert request.requested
    print("requested")
    time.sleep(0.4)
    os.kill(os.getpid(), 15)
    print("not reached")
"""
    assert ended(start(body)) == (143, "bufferedrequested\nterminated\n")


def test_a_program_that_uses_the_library_keeps_its_own_handlers() -> None:
    body = """
import os, signal
from gsplatloc.utils.signals import InterruptRequest
signal.signal(signal.SIGTERM, lambda *_: print("mine"))
with InterruptRequest() as request:
    os.kill(os.getpid(), signal.SIGTERM)
    assert not request.requested
    os.kill(os.getpid(), signal.SIGINT)
    assert request.requested
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


def test_pycolmap_leaves_the_handlers_of_signals_as_they_are() -> None:
    """Those of glog print a stack, and wait for ever where they interrupted an allocation."""
    body = r"""
import faulthandler, re
def caught():
    mask = re.search(r"SigCgt:\s+(\w+)", open("/proc/self/status").read())[1]
    return int(mask, 16) & 0x7fffffff  # without the signals of the C library
faulthandler.enable()
import numpy
before = caught()
from gsplatloc.utils.colmap import pycolmap
assert caught() == before, (before, caught())
import ctypes
ctypes.string_at(0)
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGSEGV and "Fatal Python error: Segmentation fault" in done.stderr
    assert "***" not in done.stderr
