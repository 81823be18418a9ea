"""Options of densification. A command line is parsed with this module, which does not load torch."""

from dataclasses import dataclass
from typing import Literal

from gsplatloc.utils.errors import GSplatLocError


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

    def densifies(self, iteration: int) -> bool:
        """Whether Gaussians are added after `iteration`."""
        within = self.densify_from_iter < iteration <= self.densify_until_iter
        return within and iteration % self.densification_interval == 0
