"""Leave out Gaussians by place, opacity and size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gsplatloc.utils.errors import GSplatLocError

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    import torch

    from gsplatloc.scene.gaussians import Gaussians


@dataclass(frozen=True)
class SplatFilter:
    """Which Gaussians are kept."""

    crop: tuple[float, float, float, float, float, float] | None = None
    """box of the centres that are kept: least x y z, then greatest x y z, in scene units"""
    min_opacity: float = 0.0
    """least opacity, 0 to 1"""
    max_size: float = math.inf
    """greatest standard deviation in any direction, in scene units"""

    def __post_init__(self) -> None:
        if self.crop is not None and not all(a < b for a, b in zip(self.crop[:3], self.crop[3:])):
            raise GSplatLocError(
                f"expected a box from least to greatest x y z, found {self.crop}: see --crop"
            )
        if not 0 <= self.min_opacity < 1 or not self.max_size > 0:
            raise GSplatLocError(
                f"expected an opacity in [0, 1) and a positive size, found {self.min_opacity} and"
                f" {self.max_size}: see --min_opacity and --max_size"
            )

    def apply(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians that are kept; raises `GSplatLocError` if there are none."""
        kept = (gaussians.opacities >= self.min_opacity) & (gaussians.scales.amax(1) <= self.max_size)
        if self.crop is not None:
            low, high = gaussians.means.new_tensor(self.crop).split(3)
            kept &= ((gaussians.means >= low) & (gaussians.means <= high)).all(1)
        if bool(kept.all()):
            return gaussians
        if not bool(kept.any()):
            box = [[round(value, 3) for value in row] for row in _bounds(gaussians.means)]
            raise GSplatLocError(
                f"expected some of {len(gaussians)} Gaussians to be kept, found none (centres from {box[0]}"
                f" to {box[1]}): relax the filters"
            )
        return gaussians.select(kept)


def _bounds(means: torch.Tensor) -> list[list[float]]:
    return [means.amin(0).tolist(), means.amax(0).tolist()]
