"""What every densification has in common: options, what it observes and returns, and the fixed set."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError

MIN_OPACITY = 0.005  # below it a Gaussian is dropped (adc) or moved elsewhere (mcmc)


@dataclass(frozen=True)
class DensificationOptions:
    """When and how Gaussians are added and dropped. Defaults: Kerbl et al. 2023."""

    densification: Literal["adc", "mcmc", "none"] = "adc"  # adaptive density control, MCMC, or a fixed set
    densify_from_iter: int = 500  # iteration after which Gaussians are added
    densify_until_iter: int = 15_000  # iteration after which the number is fixed
    densification_interval: int = 100  # iterations between two edits
    densify_grad_threshold: float = 2e-4  # mean loss gradient per normalised device coordinate; adc only
    percent_dense: float = 0.01  # of the scene's extent: larger Gaussians are split, others cloned; adc only
    opacity_reset_interval: int = 3_000  # iterations between resets of the opacities, 0 = never; adc only
    max_gaussians: int = 1_000_000  # cap on the number of Gaussians

    def __post_init__(self) -> None:
        if self.densification_interval < 1:
            raise GSplatLocError(
                f"expected --densification_interval of at least 1, found {self.densification_interval}:"
                " to keep the set as it is, use --densification none"
            )


@dataclass(frozen=True)
class Edit:
    """A new set of Gaussians and where each of them comes from."""

    gaussians: Gaussians  # M of them
    parents: Tensor  # [M] int64, the row that each one had, or was made from, before
    fresh: Tensor  # [M] bool, the rows whose optimiser moments start at zero
    restarted: tuple[str, ...] = ()  # parameters whose moments start at zero for every Gaussian


@dataclass(frozen=True)
class Observation:
    """What a densification needs to know of one iteration."""

    radii: Tensor  # [N] int32 pixels, 0 = not visible
    screen_gradients: Tensor  # [N, 2] loss gradient with respect to the projected centre, per pixel
    width: int  # pixels of the rendered image
    height: int


class Densification(Protocol):
    """Adds and drops Gaussians. Its whole state is in tensors, so that a run can be resumed."""

    def observe(self, iteration: int, observation: Observation) -> None:
        """Record an iteration."""
        ...

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        """The change that is due after `iteration`; None if there is none."""
        ...

    def regularization(self, iteration: int, gaussians: Gaussians) -> Tensor | None:
        """A differentiable term to add to the loss, or None."""
        ...

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
        """Noise [N, 3] in metres to add to the means after an optimiser step, or None."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


class FixedSet:
    """Leaves the Gaussians as they are."""

    def observe(self, iteration: int, observation: Observation) -> None:
        pass

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        return None

    def regularization(self, iteration: int, gaussians: Gaussians) -> Tensor | None:
        return None

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
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
