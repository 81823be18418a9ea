"""Ending a run early: a cool-down of a few iterations once the PSNR of the validation views stops rising.

Stopping at once would leave positions where a high learning rate had just moved them. Therefore the learning
rate of positions falls to its final value within the last `early_stop_cooldown` iterations.
"""

import math

import torch
from torch import Tensor

from gsplatloc.mapping.options import StoppingOptions


class EarlyStop:
    """Decides from the PSNR of the validation views which iteration is the last."""

    def __init__(self, options: StoppingOptions, iterations: int, settled: int = 0) -> None:
        """`iterations`: of the whole schedule. `settled`: the last iteration that changes the resolution, the
        harmonics or resets opacities: PSNR is not compared across it."""
        self._options, self._iterations, self._settled = options, iterations, settled
        self._best = -math.inf  # dB
        self._waited = 0  # evaluations since the best
        self._decided: int | None = None  # iteration after which the cool-down begins

    @property
    def cooling_down(self) -> bool:
        return self._decided is not None

    @property
    def last_iteration(self) -> int:
        """The run's last iteration, as decided so far."""
        if self._decided is None:
            return self._iterations
        return min(self._iterations, self._decided + self._options.early_stop_cooldown)

    def due(self, iteration: int) -> bool:
        """True if the validation views are to be evaluated after this iteration."""
        options = self._options
        if options.early_stop == 0 or self.cooling_down or iteration <= self._settled:
            return False
        return iteration % options.early_stop_interval == 0

    def observe(self, iteration: int, psnr: float) -> bool:
        """Record an evaluation in dB; True if it ends the run."""
        if psnr >= self._best + self._options.early_stop_gain:
            self._best, self._waited = psnr, 0
            return False
        self._waited += 1
        if self._waited < self._options.early_stop:
            return False
        self._decided = iteration
        return True

    def schedule_iteration(self, iteration: int) -> float:
        """The iteration whose learning rate applies: the cool-down runs through the rest of the schedule."""
        if self._decided is None or self.last_iteration <= self._decided:
            return iteration
        passed = (iteration - self._decided) / (self.last_iteration - self._decided)
        return self._decided + passed * (self._iterations - self._decided)

    def state(self) -> dict[str, Tensor]:
        decided = -1 if self._decided is None else self._decided
        return {
            "best": torch.tensor(self._best, dtype=torch.float64),
            "waited": torch.tensor(self._waited),
            "decided": torch.tensor(decided),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore `state()`; it is empty in checkpoints that were written before early stops existed."""
        if state:
            self._best, self._waited = state["best"].item(), int(state["waited"])
            decided = int(state["decided"])
            self._decided = None if decided < 0 else decided
