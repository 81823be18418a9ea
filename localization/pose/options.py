"""Options of PnP, in a module that loads neither torch nor numpy: a command line is parsed with it."""

from dataclasses import dataclass

from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class PnPOptions:
    """How to estimate a pose. Pixel values grow in proportion to images longer than 640 px."""

    loss_scale_px: float = 0.5  # of the Cauchy loss in the refinements; chosen on held-out RedKitchen views
    max_iterations: int = 20_000  # RANSAC samples at most (--ransac_iters; the paper's setting)

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise GSplatLocError(
                f"expected at least one RANSAC sample, found {self.max_iterations}: see --ransac_iters"
            )
