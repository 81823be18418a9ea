"""Commands in child processes, with their time and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.memory import peak_bytes

_POLL_S = 0.05


@dataclass(frozen=True)
class Cost:
    """Time and memory of one child process."""

    seconds: float
    peak_bytes: int  # largest resident size
    cpu_seconds: float = 0.0  # of processor time, of all threads


def run(words: Sequence[object], log: Path) -> Cost:
    """Run Python with these words at the checkout's root, its output into `log`.

    Raises `GSplatLocError` if it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start, command = time.perf_counter(), [sys.executable, *map(str, words)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        done, peak = 0, 0
        while not done:  # asked for again and again: what is left behind includes the memory of this process
            peak = max(peak, peak_bytes(process.pid))
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not done:
                time.sleep(_POLL_S)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text().strip().splitlines()[-1:]
        raise GSplatLocError(f"{' '.join(command[:3])} failed with {process.returncode}: {tail}; see {log}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(time.perf_counter() - start, peak or usage.ru_maxrss * 1024, cpu)


def run_gsplatloc(words: Sequence[object], log: Path) -> Cost:
    """Run a command of gsplatloc: `words` are its name and its options."""
    return run(["-m", "gsplatloc", *words], log)


def has_split(source: Path) -> bool:
    """Whether the scene has test images of its own; of another scene every 8th image is held out (--eval)."""
    return (source / "train").is_dir()


def map_scene(source: Path, output: Path, log: Path, flags: Sequence[object] = ()) -> Cost:
    """Map a scene with the preset for a CPU and further flags of gsplatloc train."""
    split = [] if has_split(source) else ["--eval"]
    return run_gsplatloc(["train", "-s", source, "-m", output, "--preset", "cpu", *split, *flags], log)
