"""Commands in processes that are killed at random moments.

The processes are forked from a server that has imported the libraries, so that a moment costs a second
instead of five.
"""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["gsplatloc.cli.train", "gsplatloc.cli.localize", "gsplatloc.datasets.make_room"]
)
MOMENTS = int(os.environ.get("GSPLATLOC_CRASH_MOMENTS", "1"))  # of each command and signal
SEED = int(os.environ.get("GSPLATLOC_CRASH_SEED", "0")) or int(time.time())
ROOM = ["--width", 96, "--height", 64, "--train", 6, "--test", 4, "--arc", 0.2, "--supersampling", 1]
IN_TIME_S = 5.0  # from SIGTERM to the end
# Other processes slow this one down: the limit holds for a machine that is not busy.
PATIENCE = 1.0 if "GSPLATLOC_CRASH_MOMENTS" in os.environ else 4.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None  # exit code, or minus the signal that killed it; None = it had to be killed
    seconds: float  # since the signal, or since the start if there was none
    said: str  # stdout and stderr


def _run(words: Sequence[str], log: Path, file_bytes: int | None) -> None:
    if file_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    from gsplatloc.cli import main

    main(words)


def run(
    words: Sequence[str | float | Path],
    log: Path,
    number: int | None = None,
    after_s: float = 0.0,
    file_bytes: int | None = None,
) -> Ended:
    """Run `gsplatloc WORDS`; send it the signal `number` after some time, unless it has ended.

    `file_bytes` limits the size of files.
    """
    process = SERVER.Process(target=_run, args=([str(word) for word in words], log, file_bytes))
    start = time.monotonic()
    process.start()
    if number is not None:
        process.join(after_s)
        start = time.monotonic()
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, number)
    process.join(120)
    seconds = time.monotonic() - start
    code = process.exitcode
    print(f"{words[0]} {number or ''} after {after_s:.2f} s: code {code} in {seconds:.2f} s", flush=True)
    process.kill()
    process.join()
    return Ended(code, seconds, log.read_text(errors="replace") if log.exists() else "")


def check_end(ended: Ended, number: int) -> None:
    """Raise AssertionError unless the command ended as the signal demands, or had ended before."""
    if number == signal.SIGKILL:
        assert ended.code in (0, -number), ended
        return
    # Before the command has begun, and after it has ended, the system's own handling of the signal is right.
    assert ended.code in (0, 128 + number, -number), ended
    assert ended.seconds < IN_TIME_S * PATIENCE, ended
    assert not re.search(r"Traceback|\*\*\*|@ +0x", ended.said), ended.said


def check_files(folder: Path) -> None:
    """Raise if a file below `folder` that has its final name is not whole."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                assert all(file.get_tensor(name) is not None for name in file.keys())  # noqa: SIM118
        elif path.name == "poses.txt":
            # Empty while every query so far has failed.
            assert all(line.endswith("\n") for line in path.open()), path
        elif path.suffix in (".csv", ".txt", ".html"):
            assert path.read_text().endswith(("\n", ">")), path


def remains(folder: Path) -> list[str]:
    """Hidden files: temporary ones and locks, but not the folder that keeps downloads for later runs."""
    return sorted(path.name for path in folder.rglob(".*") if path.name != ".downloads")


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """The files below `folder` that match a pattern."""
    paths = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def interrupt(
    name: str,
    number: int,
    command: Callable[..., Ended],
    whole: Ended,
    folder: Path,
    begin: Callable[[], object] = lambda: None,
    moments: int = MOMENTS,
) -> None:
    """Send the signal `number` to a command at random moments of its run, then let it end.

    `command` runs it, with the arguments `number` and `after_s` of `run`; `whole` is how it ends undisturbed.
    It writes into `folder`, which `begin` makes. A run that ended before its signal came does not count; the
    next one begins anew.
    """
    title = f"{name} {signal.Signals(number).name}"
    print(f"\n{title}: GSPLATLOC_CRASH_SEED={SEED}")
    chance, most = random.Random(f"{SEED} {title}"), whole.seconds
    slowest, hits, runs = 0.0, 0, 0
    begin()
    while hits < moments and runs < 10 + 4 * moments:
        moment = chance.uniform(0, most)
        ended = command(number=number, after_s=moment)
        check_end(ended, number)
        check_files(folder)
        runs += 1
        if ended.code == 0:
            most = min(most, moment)  # it was slower while it was measured, or had less left to do
            shutil.rmtree(folder)
            begin()
        else:
            hits, slowest = hits + 1, max(slowest, ended.seconds)
    print(f"{title}: {hits} signals in {runs} runs, the slowest end after {slowest:.2f} s", flush=True)
    assert hits == moments
    last = command()
    assert last.code == 0, last.said
    assert remains(folder) == [], "a temporary file or a lock"
