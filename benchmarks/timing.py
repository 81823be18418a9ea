"""Milliseconds of what runs on a CPU or a GPU."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch


class Stopwatch:
    """Laps by name. On a GPU they are measured by its own events, the host's waits within them included."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._laps: dict[str, list[float]] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        if self._device.type != "cuda":
            start = time.perf_counter()
            yield
            milliseconds = (time.perf_counter() - start) * 1e3
        else:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(self._device)
            begin.record()
            yield
            end.record()
            torch.cuda.synchronize(self._device)
            milliseconds = begin.elapsed_time(end)
        self._laps.setdefault(name, []).append(milliseconds)

    def medians(self, skip: int = 1) -> dict[str, float]:
        """The median of every lap but the first `skip`, which warm up."""
        return {name: median(laps[skip:]) for name, laps in self._laps.items()}


def median_ms(device: torch.device, repeats: int, action: Callable[[], object]) -> float:
    """Median milliseconds of `action`, after two calls that do not count."""
    watch = Stopwatch(device)
    for _ in range(repeats + 2):
        with watch.lap("ms"):
            action()
    return watch.medians(skip=2)["ms"]
