"""How sure a pose is: covariances that own up to the errors that observations share.

The inverse of J^T J / sigma^2 holds for independent errors. Those of a map often are not: neighbouring
landmarks, and neighbouring pixels of a rendering, come from the same training views and are off together.
How far they are is a matter of the scene: residuals 20 pixels apart correlate by 0.1 in RedKitchen and by
0.01 in South Building. So it is measured in every query, by the jackknife over blocks (Kuensch 1989, "The
jackknife and the bootstrap for general stationary observations"): each ninth of the picture is left out
in turn, and the pose moves as far as what they share says. No constant but the number of parts is fitted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Of `covariance_of`, for estimates that are not jackknifed (fine, warp): observations that share an error.
OBSERVATIONS_PER_ERROR = 25.0
_LEAST_SHARE = 1e-12  # of an axis's own information: less is none, and its variance huge instead of infinite
# Columns and rows of parts: smaller ones miss errors that reach further, fewer cannot tell six unknowns.
_ACROSS = 3
_LEAST_SIDE_PX = 1e-6
_LEAST_PARTS = 4  # with something in them: fewer tell nothing about one another
_LEAST_LEFT = 1e-6  # of the information, in any direction, when a part is left out: less is taken for so much
_LEAST_SIZE = 1e-2  # of the inverse information: residuals of nothing do not make a pose exact
_LEAST_CURVATURE = 0.1  # of a robust cost relative to J^T W J: where most residuals are outliers


@dataclass(frozen=True)
class Parts:
    """Nine equal rectangles, three by three, over what was observed of a picture."""

    corner: Tensor  # [2] pixels, of the first
    size: Tensor  # [2] pixels, of each

    @classmethod
    def around(cls, pixels: Tensor) -> "Parts":
        """Over the bounding box of `pixels` [M, 2], M > 0."""
        pixels = pixels.double().cpu()
        low, high = pixels.amin(0), pixels.amax(0)
        return cls(low, ((high - low) / _ACROSS).clamp(min=_LEAST_SIDE_PX))

    def __len__(self) -> int:
        return _ACROSS * _ACROSS

    def index(self, pixels: Tensor) -> Tensor:
        """The part [M] int64 that each of `pixels` [M, 2] lies in, or is nearest to."""
        cells = ((pixels.double().cpu() - self.corner) / self.size).long().clamp(0, _ACROSS - 1)
        return cells[:, 1] * _ACROSS + cells[:, 0]


@dataclass(frozen=True)
class PartSums:
    """A robust cost near its minimum, each part of the picture summed apart."""

    curvature: Tensor  # [K, 6, 6] float64, that of the cost: less than J^T W J, see `bend`
    gradient: Tensor  # [K, 6] float64, J^T W r

    def __add__(self, other: "PartSums") -> "PartSums":
        return PartSums(self.curvature + other.curvature, self.gradient + other.gradient)


@dataclass(frozen=True)
class Known:
    """What else the minimum was drawn to: an estimate of the same pose, from the same picture and map."""

    information: Tensor  # [6, 6] float64 that it entered the cost with
    covariance: Tensor  # [6, 6] float64 that it states


def jackknife(sums: PartSums, known: Known | None = None) -> Tensor:
    """Covariance [6, 6] float64 of the pose where all parts together are at their minimum.

    Leaving out part k moves the pose by (H - H_k)^-1 g_k, H the curvature of all. The scatter of nine moves
    tells the size of a covariance, not its shape: that is the inverse information's. `known` errs in an
    unknown way together with the rest, so that standard deviations are added instead of variances (the bound
    of Julier & Uhlmann 1997, "A non-divergent estimation algorithm in the presence of unknown correlations").
    """
    used = sums.curvature.diagonal(dim1=1, dim2=2).sum(1) > 0
    if int(used.sum()) < _LEAST_PARTS:
        return _unmeasured(sums.curvature.sum(0), known)
    whole = sums.curvature.sum(0) + (0.0 if known is None else known.information)
    # Metres and radians are brought to one scale: lengths are divided by `scale`, information multiplied.
    scale = whole.diagonal().clamp(min=_LEAST_SHARE).rsqrt()
    parts, whole = scale[:, None] * sums.curvature[used] * scale, scale[:, None] * whole * scale
    moves = _moves(parts, whole, sums.gradient[used] * scale)
    inverse, own = _inverse(whole), parts.sum(0)
    covariance = _size(moves, own, whole) * (inverse if known is None else inverse @ own @ inverse)
    if known is not None:
        pull = inverse @ (scale[:, None] * known.information)
        covariance = _bound(covariance, pull @ known.covariance @ pull.T)
    return scale[:, None] * covariance * scale


def _unmeasured(curvature: Tensor, known: Known | None) -> Tensor:
    """`covariance_of` so much curvature, together with `known`."""
    if known is None:
        return covariance_of(curvature)
    inverse = _inverse(curvature + known.information)
    pull = inverse @ known.information
    own = OBSERVATIONS_PER_ERROR * inverse @ curvature @ inverse
    return _bound(own, pull @ known.covariance @ pull.T)


def bend(square: Tensor, coordinates: int) -> float:
    """Curvature of the Geman-McClure cost 2 s / (1 + s) of residuals, relative to that of J^T W J.

    `square` holds s = |r / (2 sigma)|^2 of residuals of so many coordinates: mean over the directions of r of
    the second derivative, where W has the first divided by |r|. Outliers have none: they hold no pose.
    """
    weight = (1 + square) ** -2
    turned = 1 - 4 / coordinates * square / (1 + square)
    mean = (weight * turned).sum() / weight.sum().clamp(min=_LEAST_SHARE)
    return max(mean.item(), _LEAST_CURVATURE)


def _moves(parts: Tensor, whole: Tensor, gradient: Tensor) -> Tensor:
    """Where the minimum moves [K, 6] as each part is left out, about the mean of these moves."""
    values, vectors = torch.linalg.eigh(whole - parts)
    pulls = torch.einsum("kij,ki->kj", vectors, gradient) / values.clamp(min=_LEAST_LEFT)
    moves = torch.einsum("kij,kj->ki", vectors, pulls)
    return moves - moves.mean(0)


def _size(moves: Tensor, own: Tensor, whole: Tensor) -> Tensor:
    """The jackknife's covariance relative to whole^-1 own whole^-1, mean over the axes that are observed."""
    values, vectors = torch.linalg.eigh(own)
    observed = values > _LEAST_LEFT * values[-1]
    whitened = moves @ whole @ vectors[:, observed] * values[observed].rsqrt()
    size = (len(moves) - 1) / len(moves) * (whitened * whitened).sum() / observed.sum()
    return size.clamp(min=_LEAST_SIZE)


def _bound(a: Tensor, b: Tensor) -> Tensor:
    """A covariance that no correlation of two errors exceeds; its trace is the least of all such."""
    sizes = a.trace().sqrt(), b.trace().sqrt()
    if min(sizes) == 0:
        return a + b
    return (1 + sizes[1] / sizes[0]) * a + (1 + sizes[0] / sizes[1]) * b


def covariance_of(information: Tensor) -> Tensor:
    """Covariance [K, K] float64 of parameters whose information matrix was summed as if errors were apart."""
    return OBSERVATIONS_PER_ERROR * _inverse(information.double().cpu())


def apart(covariance: Tensor) -> Tensor:
    """What `covariance_of` was given."""
    return OBSERVATIONS_PER_ERROR * _inverse(covariance.double().cpu())


def _inverse(matrix: Tensor) -> Tensor:
    """Inverse of a symmetric positive matrix; metres and radians are brought to one scale first.

    A pseudo-inverse would call a direction that nothing observes certain; here it is very uncertain.
    """
    scale = matrix.diagonal().clamp(min=_LEAST_SHARE).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * matrix * scale)
    inverse = vectors / values.clamp(min=_LEAST_SHARE) @ vectors.T
    return scale[:, None] * inverse * scale
