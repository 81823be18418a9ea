"""The Geman-McClure robust cost 2 s / (1 + s) of residuals r, with s = |r|^2 / (2 sigma)^2.

For small residuals it is |r|^2 / (2 sigma^2), the negative log likelihood of Gaussian noise; it never exceeds
2, so that far outliers do not move the minimum (Geman & McClure 1987, "Statistical methods for tomographic
image reconstruction"). All functions take numbers, numpy arrays and torch tensors of s alike.
"""

from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Squares = TypeVar("Squares", float, np.ndarray, Tensor)  # s, none negative

_MIN_CURVATURE = 0.1  # relative to J^T W J: the least, reached where most residuals are outliers


def cost(square: Squares) -> Squares:
    """2 s / (1 + s), in [0, 2)."""
    return 2 * square / (1 + square)


def weight(square: Squares) -> Squares:
    """1 / (1 + s)^2: the weight of r^T r / sigma^2 in the normal equations; 1 for s = 0."""
    return 1 / (1 + square) ** 2


def curvature(square: Any, coordinates: int) -> float:
    """Mean curvature of the cost relative to that of J^T W J: the second-order (Triggs) correction.

    `square` [M] holds s of residuals of so many coordinates each. The correction is the second derivative of
    the cost, averaged over the directions of r, relative to `weight`; outliers have none.
    """
    weights = weight(square)
    corrected = 1 - 4 / coordinates * square / (1 + square)
    total = float(weights.sum())
    return max(float((weights * corrected).sum()) / total if total > 0 else 0.0, _MIN_CURVATURE)
