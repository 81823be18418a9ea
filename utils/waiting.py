"""How the threads of OpenMP (torch, our kernels) wait for each other: spinning while the cores are free,
asleep while other processes want them.

Between two parallel loops a thread that spins starts the next loop within a microsecond; one that sleeps is
woken in 5 to 50. But where more threads want to run than there are cores, the spinning thread keeps the core
from the one that it waits for, and everything takes 5 to 25 times as long. GNU's runtime reads how long to
spin once, from the environment, and spins for the shorter, throttled time whenever it has more threads than
the machine has cores. So `adapt_to_load()` sets the two times, and a thread watches how long this process
waits for a core: while that is long, the runtime is given more threads than cores, which do nothing.
(libgomp's manual, GOMP_SPINCOUNT; `do_spin` in its wait.h.)
"""

import ctypes
import math
import os
import sys
import threading
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

# A thread that waits spins 300,000 times while the cores are free, as libgomp does by default, which takes
# some milliseconds; while the runtime has more threads than cores, it sleeps at once.
_SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"}
_INTERVAL_S = 0.1  # between two looks at the load
_BUSY = 0.2  # share of the time that the main thread wants a core and has none, above which threads sleep
_IDLE = 0.1  # idle time of the cores, as a share of one core's, above which they spin again ...
_CALM_LOOKS = 3  # ... after so many looks


def adapt_to_load() -> None:
    """Let OpenMP's threads wait as suits the load of the machine, from now on.

    To be called before torch is imported. Does nothing where the user has set OMP_WAIT_POLICY or
    GOMP_SPINCOUNT, with one core, or without Linux's scheduling statistics. OMP_NUM_THREADS, where it is
    unset, becomes the limit of the control group, which libgomp does not read: `docker run --cpus 2`.
    """
    if sys.platform != "linux":
        return
    cores = os.sched_getaffinity(0)
    limit = group_limit()
    if limit is not None and limit < len(cores):
        os.environ.setdefault("OMP_NUM_THREADS", str(limit))
    given = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    if len(cores) == 1 or given not in ({}, _SETTINGS):
        return
    os.environ.update(_SETTINGS)
    with suppress(OSError, IndexError, ValueError):
        _queued_s(), _idle_s(cores)
        threading.Thread(target=_watch, args=(cores,), daemon=True, name="load").start()


def group_limit(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Cores that the control group of this process may use at once, rounded up; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    with suppress(OSError, ValueError):
        quota_us = int((folder / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu/cpu.cfs_period_us").read_text())
        return max(1, math.ceil(quota_us / period_us)) if quota_us > 0 else None
    return None


def _queued_s() -> float:
    """Seconds that the main thread could have run but had no core, since its start."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def _idle_s(cores: Set[int]) -> float:
    """Seconds that `cores` had nothing to do, summed, since the machine's start."""
    rows = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    names = {f"cpu{core}" for core in cores}
    return sum(int(row[4]) for row in rows if row[0] in names) / os.sysconf("SC_CLK_TCK")


class Surplus:
    """More threads of OpenMP than the machine has cores, which sleep until `stop`: all others sleep, too."""

    def __init__(self, cores: int) -> None:
        self._threads = cores + 1
        self._stopped = threading.Event()
        threading.Thread(target=self._hold, daemon=True, name="surplus").start()

    def _hold(self) -> None:
        libraries = ctypes.CDLL(None)
        nothing = ctypes.cast(libraries.free, ctypes.c_void_p)  # free(NULL)
        libraries.GOMP_parallel(nothing, None, ctypes.c_uint(self._threads), ctypes.c_uint(0))
        self._stopped.wait()  # the runtime ends this thread's threads with it

    def stop(self) -> None:
        self._stopped.set()


class Load:
    """Whether other processes use the cores, by the time that the main thread queued and the cores idled."""

    def __init__(self) -> None:
        self.busy = False
        self._calm = 0  # consecutive looks that found the cores idle

    def look(self, queued_s: float, idle_s: float, interval_s: float = _INTERVAL_S) -> bool:
        """`busy` after the last `interval_s`, in which the cores idled for `idle_s` in total."""
        if not self.busy:
            self.busy = queued_s > _BUSY * interval_s
            self._calm = 0
        else:
            self._calm = self._calm + 1 if idle_s > _IDLE * interval_s else 0
            self.busy = self._calm < _CALM_LOOKS
        return self.busy


def _watch(cores: Set[int]) -> None:
    load, surplus = Load(), None
    while True:
        queued, idle = _queued_s(), _idle_s(cores) if load.busy else 0.0
        time.sleep(_INTERVAL_S)
        # torch's runtime, once it is loaded, is the one that dynamic linking finds by this name.
        if surplus is None and not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
            continue
        busy = load.look(_queued_s() - queued, _idle_s(cores) - idle if load.busy else 0.0)
        if busy and surplus is None:
            surplus = Surplus(len(cores))
        elif surplus is not None and not busy:
            surplus.stop()
            surplus = None
