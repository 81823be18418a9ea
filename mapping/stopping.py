"""Ending a run early: once held-out views stop improving, the schedule is wound up in a few iterations.

Stopping dead would leave positions where a high learning rate had just moved them. The last
`early_stop_windup` iterations therefore run through what is left of the schedule: the rate falls to its end.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class StoppingOptions:
    """When a run ends before its last iteration. Only held-out views can tell: it needs --holdout."""

    early_stop: int = 0  # evaluations in a row without a gain that end a run; 0 = run to the last iteration
    early_stop_gain: float = 0.1  # dB by which the held-out views' mean PSNR must beat its best so far
    early_stop_interval: int = 250  # iterations between two such evaluations
    early_stop_windup: int = 300  # iterations still made then, over which the position rate falls to its end

    def __post_init__(self) -> None:
        for name, least in (("early_stop", 0), ("early_stop_interval", 1), ("early_stop_windup", 0)):
            value = getattr(self, name)
            if value < least:
                raise GSplatLocError(f"expected --{name} of at least {least}, found {value}")
        if self.early_stop_gain < 0:
            raise GSplatLocError(f"expected --early_stop_gain of at least 0, found {self.early_stop_gain}")


class EarlyStop:
    """Watches the held-out views' PSNR and says which iteration is the last."""

    def __init__(self, options: StoppingOptions, iterations: int, settled: int = 0) -> None:
        """`iterations`: of the whole schedule. `settled`: the last one that changes what a map can show (its
        resolution, its opacities): PSNR is not compared across it."""
        self._options, self._iterations, self._settled = options, iterations, settled
        self._best = -math.inf  # dB
        self._waited = 0  # evaluations since
        self._decided: int | None = None  # iteration after which the schedule is wound up

    @property
    def winding_up(self) -> bool:
        return self._decided is not None

    @property
    def last_iteration(self) -> int:
        """The run's last iteration, as far as is known."""
        if self._decided is None:
            return self._iterations
        return min(self._iterations, self._decided + self._options.early_stop_windup)

    def due(self, iteration: int) -> bool:
        """Whether held-out views are to be evaluated after an iteration."""
        options = self._options
        if options.early_stop == 0 or self.winding_up or iteration <= self._settled:
            return False
        return iteration % options.early_stop_interval == 0

    def observe(self, iteration: int, psnr: float) -> bool:
        """Take note of an evaluation in dB; True when it is the one that ends the run."""
        if psnr >= self._best + self._options.early_stop_gain:
            self._best, self._waited = psnr, 0
            return False
        self._waited += 1
        if self._waited < self._options.early_stop:
            return False
        self._decided = iteration
        return True

    def schedule_iteration(self, iteration: int) -> float:
        """The iteration whose learning rate applies: the remaining ones go by faster during the wind-up."""
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
        """Go on from `state()`; checkpoints from before there was an early stop have none."""
        if state:
            self._best, self._waited = state["best"].item(), int(state["waited"])
            decided = int(state["decided"])
            self._decided = None if decided < 0 else decided
