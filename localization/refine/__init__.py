"""Refinements of a pose against the rendered map. Each lives in its own file and satisfies `Refiner`."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from gsplatloc.localization.features.xfeat import Keypoints
from gsplatloc.localization.result import PoseEstimate
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians


@dataclass(frozen=True)
class Query:
    """An image to localize with everything extracted from it, once."""

    image: np.ndarray  # [H, W, 3] uint8 RGB, undistorted
    camera: Camera
    keypoints: Keypoints
    dense: Tensor  # [64, h, w] L2-normalised XFeat map; cell (r, c) is centred at ((c+.5)W/w, (r+.5)H/h)


class Refiner(Protocol):
    """Improves a successful estimate, or returns it with `improved=False`: never makes it worse knowingly."""

    name: str

    def refine(self, query: Query, gaussians: Gaussians, initial: PoseEstimate) -> PoseEstimate: ...
