"""Times beside the time of a matrix product, so that they mean the same on another and on a busy machine.

torch.matmul runs right before and right after every single measurement, and the rounds go through all probes
in turn: what slows the machine down for a while slows down both, and no probe is measured in one bad second.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median

import torch

_SIZE = {1: 512}  # of the square matrices, by threads: some milliseconds
_LARGE_SIZE = 1024  # with more threads
_WARM_UP = 2  # rounds that do not count

Lap = Callable[[str], AbstractContextManager[None]]


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
    cpu_time: bool = False  # of the process, which other processes hardly change, instead of the wall's
    seconds: float = float("inf")  # stop after so long, but not before a third of the rounds


@dataclass(frozen=True)
class Figure:
    """What a lap took."""

    median_ms: float
    least_ms: float
    # GFLOP of torch.matmul in the same time; smaller is better.
    paired_gflop: float  # the median over measurements, each against its two neighbours
    least_gflop: float  # the shortest measurement against the shortest product
    rounds: int

    @property
    def gflops(self) -> float:
        """The rate of torch.matmul beside this lap, GFLOP/s."""
        return self.paired_gflop / self.median_ms * 1e3


@dataclass(frozen=True)
class _Sample:
    seconds: float
    product_seconds: float  # of the mean of the products before and after


class Yardstick:
    """The matrix product, and its shortest time."""

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

    def laps(self, probe: Probe) -> dict[str, _Sample]:
        """One run of a probe between two products."""
        seconds: dict[str, float] = {}

        @contextmanager
        def lap(name: str) -> Iterator[None]:
            start = self._now()
            yield
            seconds[name] = seconds.get(name, 0.0) + self._now() - start

        before = self.product()
        probe.run(lap)
        product = (before + self.product()) / 2
        return {name: _Sample(value, product) for name, value in seconds.items()}


def measure(probes: Sequence[Probe], protocol: Protocol) -> dict[str, Figure]:
    """Figures of all laps, by "probe: lap"."""
    before = torch.get_num_threads()
    torch.set_num_threads(protocol.threads)
    try:
        yardstick = Yardstick(protocol)
        samples: dict[str, list[_Sample]] = {}
        start = time.perf_counter()
        for index in range(_WARM_UP + protocol.rounds):
            for probe in probes:
                for name, sample in yardstick.laps(probe).items():
                    if index >= _WARM_UP:
                        samples.setdefault(f"{probe.name}: {name}", []).append(sample)
            late = time.perf_counter() - start > protocol.seconds
            if late and 3 * (index + 1 - _WARM_UP) >= protocol.rounds:
                break
        return {name: _figure(found, yardstick) for name, found in samples.items()}
    finally:
        torch.set_num_threads(before)


def _figure(samples: Sequence[_Sample], yardstick: Yardstick) -> Figure:
    seconds = [sample.seconds for sample in samples]
    ratios = [sample.seconds / sample.product_seconds for sample in samples]
    return Figure(
        median_ms=median(seconds) * 1e3,
        least_ms=min(seconds) * 1e3,
        paired_gflop=median(ratios) * yardstick.gflop,
        least_gflop=min(seconds) / yardstick.least * yardstick.gflop,
        rounds=len(samples),
    )
