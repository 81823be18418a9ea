"""Seconds that the stages of a run took."""

import time
from collections.abc import Mapping


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Attribute the time since the last lap to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def in_stages(seconds: Mapping[str, float]) -> str:
    """The sum and its parts, as "84 s (features 9 s, matching 75 s)"."""
    stages = ", ".join(f"{name} {part:.0f} s" for name, part in seconds.items())
    return f"{sum(seconds.values()):.0f} s ({stages})"
