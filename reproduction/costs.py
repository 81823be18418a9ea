"""What a step costs: seconds and peak memory, kept in a file over all runs that the step took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gsplatloc.utils.errors import decoding
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.memory import peak_bytes, trim_heap
from gsplatloc.utils.signals import finishing

_KINDS: dict[str, type[int] | type[float]] = {"seconds": float, "peak_bytes": int, "runs": int}
_RESET_PEAK = "5"  # what Linux expects in clear_refs


@contextmanager
def measured(path: Path, step: str) -> Iterator[None]:
    """Add what the body takes to the costs of `step` in the file `path`, also where a signal ends it.

    A run that is killed leaves nothing but its number in `runs`: its time is not included.
    """
    costs = read_costs(path)
    entry = costs.setdefault(step, {"seconds": 0.0, "peak_bytes": 0, "runs": 0})
    entry["runs"] += 1
    write_json(path, costs)
    _reset_peak()
    start = time.perf_counter()
    try:
        yield
    finally:
        entry["seconds"] += time.perf_counter() - start
        entry["peak_bytes"] = max(entry["peak_bytes"], peak_bytes())
        with finishing():
            write_json(path, costs)


def read_costs(path: Path) -> dict[str, Any]:
    """Costs by step; none if there is no such file. Raises GSplatLocError for a damaged one."""
    found = read_json(path) if path.is_file() else {}
    with decoding("costs of steps", path, "delete the file"):
        return {
            str(step): {name: kind(entry[name]) for name, kind in _KINDS.items()}
            for step, entry in found.items()
        }


def _reset_peak() -> None:
    """Let the peak begin at the memory in use now, where the system can (Linux)."""
    trim_heap()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
