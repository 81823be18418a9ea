"""Parts of every densification: options, its input and its result, and the one that does nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians

MIN_OPACITY = 0.005  # below it a Gaussian is dropped (adc) or moved elsewhere (mcmc)


@dataclass(frozen=True)
class Edit:
    """A new set of Gaussians and where each of them comes from."""

    gaussians: Gaussians  # M of them
    parents: Tensor  # [M] int64, the row that each one had, or was made from, before
    fresh: Tensor  # [M] bool, the rows whose optimiser moments start at zero
    restarted: tuple[str, ...] = ()  # parameters whose moments start at zero for every Gaussian


@dataclass(frozen=True)
class Observation:
    """The input of a densification in one iteration."""

    radii: Tensor  # [N] int32 pixels, 0 = not visible
    screen_gradients: Tensor  # [N, 2] loss gradient with respect to the projected centre, per pixel
    width: int  # pixels of the rendered image
    height: int


class Densification:
    """Adds and drops Gaussians; this one leaves them as they are.

    Its whole state is in tensors, so that a run can be resumed.
    """

    def observes(self, iteration: int) -> bool:
        """Whether an iteration is to be recorded: gradients of projected centres cost time otherwise."""
        return False

    def observe(self, observation: Observation) -> None:
        """Record an iteration."""

    def due(self, iteration: int) -> bool:
        """Whether `edit` may return a change after `iteration`."""
        return False

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        """The change that is due after `iteration`; None if there is none."""
        return None

    def regularization(self, iteration: int, gaussians: Gaussians) -> Tensor | None:
        """A differentiable term to add to the loss, or None."""
        return None

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
        """Noise [N, 3] in metres to add to the means after a step, or None; colours are not read."""
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


def standard_normal(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers on `device`, reproducible from `generator`.

    If the generator is on another device, only a seed is drawn from it: to draw millions of numbers on a CPU
    and to copy them takes longer than a training iteration.
    """
    if generator.device != device:
        seed = int(torch.randint(1 << 62, (), generator=generator))
        generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)
