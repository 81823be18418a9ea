"""The schedule of a run: which view, at which resolution, with how many spherical harmonics."""

import torch
from torch import Tensor


class ViewOrder:
    """Endless passes over the views, each in a new random order; upcoming views can be read in advance."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._generator = torch.Generator().manual_seed(seed)
        self._queue: list[int] = []

    def upcoming(self, number: int) -> list[int]:
        """The next views' indices, the very next one first."""
        while len(self._queue) < number:
            self._queue += torch.randperm(self._count, generator=self._generator).tolist()
        return self._queue[:number]

    def advance(self) -> int:
        """Remove the next view's index and return it."""
        self.upcoming(1)
        return self._queue.pop(0)

    def state(self) -> dict[str, Tensor]:
        return {
            "queue": torch.tensor(self._queue, dtype=torch.int64),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._queue = state["queue"].tolist()
        self._generator.set_state(state["generator"])
