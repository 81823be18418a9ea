"""Time and memory of child processes, and times beside the time of a matrix product.

torch.matmul runs right before and right after every measurement, so that other load on the machine slows
both, and times can be compared between machines. Each round measures all probes in turn, so that a second of
heavy load affects them all.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import ROOT
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.memory import peak_bytes

_POLL_S = 0.05
_SIZE = {1: 512}  # of the square matrices, by threads: some milliseconds
_LARGE_SIZE = 1024  # with more threads
_WARM_UP = 2  # rounds that do not count
Lap = Callable[[str], AbstractContextManager[None]]


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


@dataclass(frozen=True)
class Probe:
    """Something to time: `run(lap)` does its work within `with lap(name):`, and prepares it outside."""

    name: str
    run: Callable[[Lap], None]


@dataclass(frozen=True)
class Protocol:
    """How to measure."""

    threads: int = 1  # of torch, for the products; probes have their own
    rounds: int = 9  # measurements of each lap
    cpu_time: bool = False  # of the process, instead of wall time: other processes hardly change it
    seconds: float = float("inf")  # stop after so long, but not before a third of the rounds


@dataclass(frozen=True)
class Figure:
    """What a lap took. GFLOP are those of torch.matmul in the same time; smaller is faster."""

    median_ms: float
    least_ms: float
    paired_gflop: float  # the median over measurements, each against its two neighbouring products
    least_gflop: float  # the shortest measurement against the shortest product
    rounds: int


class Yardstick:
    """The matrix product, and the shortest time it took."""

    def __init__(self, protocol: Protocol) -> None:
        size = _SIZE.get(protocol.threads, _LARGE_SIZE)
        generator = torch.Generator().manual_seed(0)
        self._a, self._b = (torch.randn(size, size, generator=generator) for _ in range(2))
        self._now = time.process_time if protocol.cpu_time else time.perf_counter
        self.gflop = 2 * size**3 / 1e9
        self.least = float("inf")  # seconds

    def product(self) -> float:
        """Seconds of one product."""
        start = self._now()
        torch.matmul(self._a, self._b)
        seconds = self._now() - start
        self.least = min(self.least, seconds)
        return seconds

    def laps(self, probe: Probe) -> dict[str, tuple[float, float]]:
        """One run of a probe between two products: (seconds of a lap, mean seconds of the products)."""
        seconds: dict[str, float] = {}

        @contextmanager
        def lap(name: str) -> Iterator[None]:
            start = self._now()
            yield
            seconds[name] = seconds.get(name, 0.0) + self._now() - start

        before = self.product()
        probe.run(lap)
        product = (before + self.product()) / 2
        return {name: (value, product) for name, value in seconds.items()}

    def figure(self, samples: Sequence[tuple[float, float]]) -> Figure:
        seconds = [sample[0] for sample in samples]
        return Figure(
            median_ms=median(seconds) * 1e3,
            least_ms=min(seconds) * 1e3,
            paired_gflop=median(lap / product for lap, product in samples) * self.gflop,
            least_gflop=min(seconds) / self.least * self.gflop,
            rounds=len(samples),
        )


def measure(probes: Sequence[Probe], protocol: Protocol) -> dict[str, Figure]:
    """Figures of all laps, by "probe: lap"."""
    before = torch.get_num_threads()
    torch.set_num_threads(protocol.threads)
    try:
        yardstick = Yardstick(protocol)
        samples: dict[str, list[tuple[float, float]]] = {}
        start = time.perf_counter()
        for index in range(_WARM_UP + protocol.rounds):
            for probe in probes:
                for name, sample in yardstick.laps(probe).items():
                    if index >= _WARM_UP:
                        samples.setdefault(f"{probe.name}: {name}", []).append(sample)
            late = time.perf_counter() - start > protocol.seconds
            if late and 3 * (index + 1 - _WARM_UP) >= protocol.rounds:
                break
        return {name: yardstick.figure(found) for name, found in samples.items()}
    finally:
        torch.set_num_threads(before)


def timed(owner: object, method: str, lap: Lap, label: str) -> Callable[..., Any]:
    """The method `owner.method`, which runs within a lap."""
    original = getattr(owner, method)

    def wrapper(*arguments: Any, **named: Any) -> Any:
        with lap(label):
            return original(*arguments, **named)

    return wrapper
