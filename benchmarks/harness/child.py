"""Child processes, with what they cost."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class Cost:
    """What one child process took."""

    seconds: float
    peak_bytes: int  # largest resident size
    cpu_seconds: float = 0.0  # of processor time, of all threads


def run(command: Sequence[str], log: Path) -> Cost:
    """Run a command at the checkout's root, its output into `log`; `GSplatLocError` if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text().strip().splitlines()[-1:]
        raise GSplatLocError(f"{' '.join(command[:3])} failed with {process.returncode}: {tail}; see {log}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(time.perf_counter() - start, usage.ru_maxrss * 1024, cpu)
