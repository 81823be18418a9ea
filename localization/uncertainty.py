"""How sure a pose is: covariances that own up to the errors that matches share.

The inverse of J^T J / sigma^2 holds for independent errors. Those of a map are not: neighbouring landmarks,
and neighbouring pixels of a rendering, come from the same training views and are off together. On held-out
views of RedKitchen true errors were 4.5 to 6 times what independence promises, after each of the stages.
"""

import torch
from torch import Tensor

OBSERVATIONS_PER_ERROR = 25.0  # that share one: deviations are 5 times those of independent errors
_LEAST_SHARE = 1e-12  # of an axis's own information: less is none, and its variance huge instead of infinite


def covariance_of(information: Tensor, per_error: float = OBSERVATIONS_PER_ERROR) -> Tensor:
    """Covariance [K, K] float64 of parameters whose information matrix was summed as if errors were apart.

    `per_error` observations share an error.
    """
    return per_error * _inverse(information.double().cpu())


def information_of(covariance: Tensor | None) -> Tensor:
    """What `covariance_of` was given for a pose [6, 6]; zero for an estimate that states no covariance.

    It weighs an estimate against other evidence from the same map, which shares the map's errors.
    """
    if covariance is None:
        return torch.zeros(6, 6, dtype=torch.float64)
    return OBSERVATIONS_PER_ERROR * _inverse(covariance.double().cpu())


def _inverse(matrix: Tensor) -> Tensor:
    """Inverse of a symmetric positive matrix; metres and radians are brought to one scale first.

    A pseudo-inverse would call a direction that nothing observes certain; here it is very uncertain.
    """
    scale = matrix.diagonal().clamp(min=_LEAST_SHARE).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * matrix * scale)
    inverse = vectors / values.clamp(min=_LEAST_SHARE) @ vectors.T
    return scale[:, None] * inverse * scale
