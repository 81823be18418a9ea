"""Pose covariance under correlated residuals: block jackknife over a 3 x 3 grid of the image.

The inverse of J^T J / sigma^2 is the covariance of a pose if the residuals are independent. Those of a map
often are not: neighbouring landmarks, and neighbouring pixels of a rendering, come from the same training
views and share errors. How strongly depends on the scene: residuals 20 pixels apart correlate by 0.1 in
RedKitchen and by 0.01 in South Building. So the correlation is estimated per query (Kuensch 1989, "The
jackknife and the bootstrap for general stationary observations"): the observations of each of the nine cells
are left out in turn, and the scatter of the nine poses gives the size of the covariance.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Observations that share one error, where that cannot be measured: too few cells hold observations, or an
# estimate of another program states nothing but a covariance. Measured in RedKitchen, pixels of a rendering.
_OBSERVATIONS_PER_ERROR = 25.0
_MIN_EIGENVALUE = 1e-12  # relative to an axis's own information: the variance of less is huge, not infinite
# Columns and rows of the grid: smaller cells miss errors that reach further, fewer cells cannot determine six
# unknowns.
_ACROSS = 3
_MIN_SIDE_PX = 1e-6  # of a cell
_MIN_CELLS = 4  # with observations in them: the scatter of fewer poses is no estimate
_MIN_REMAINING = 1e-6  # of the information, in any direction, when a cell is left out
_MIN_SIZE = 1e-2  # of the inverse information: residuals of zero do not make a pose exact


@dataclass(frozen=True)
class Grid:
    """Nine equal cells, three by three, over the observed part of an image."""

    corner: Tensor  # [2] pixels, of the first cell
    size: Tensor  # [2] pixels, of each cell

    @classmethod
    def over(cls, pixels: Tensor) -> "Grid":
        """Over the bounding box of `pixels` [M, 2], M > 0."""
        pixels = pixels.double().cpu()
        low, high = pixels.amin(0), pixels.amax(0)
        return cls(low, ((high - low) / _ACROSS).clamp(min=_MIN_SIDE_PX))

    def __len__(self) -> int:
        return _ACROSS * _ACROSS

    def index(self, pixels: Tensor) -> Tensor:
        """The cell [M] int64 that each of `pixels` [M, 2] lies in, or is nearest to."""
        cells = ((pixels.double().cpu() - self.corner) / self.size).long().clamp(0, _ACROSS - 1)
        return cells[:, 1] * _ACROSS + cells[:, 0]


@dataclass(frozen=True)
class GridSums:
    """A robust cost near its minimum, summed over the observations of each cell."""

    curvature: Tensor  # [K, 6, 6] float64, of the cost: J^T W J times `robust.curvature`
    gradient: Tensor  # [K, 6] float64, J^T W r

    def __add__(self, other: "GridSums") -> "GridSums":
        return GridSums(self.curvature + other.curvature, self.gradient + other.gradient)

    def of(self, unknowns: list[int]) -> "GridSums":
        """The sums of some of the unknowns alone."""
        return GridSums(self.curvature[:, unknowns][:, :, unknowns], self.gradient[:, unknowns])


@dataclass(frozen=True)
class Prior:
    """A Gaussian term of the cost: another estimate of the same pose, from the same image and map."""

    information: Tensor  # [6, 6] float64, with which it enters the cost
    covariance: Tensor  # [6, 6] float64, which it states


def jackknife(sums: GridSums, prior: Prior | None = None) -> Tensor:
    """Covariance [6, 6] float64 of the pose where the cost of all cells and the prior is least.

    Leaving out cell k moves the pose by (H - H_k)^-1 g_k, H the curvature of all. The scatter of nine moves
    gives the size of the covariance; its shape is that of the inverse information. The correlation between
    `prior` and the observations is unknown, so that standard deviations are added instead of variances (the
    bound of Julier & Uhlmann 1997, "A non-divergent estimation algorithm in the presence of unknown
    correlations").
    """
    # In numpy: for matrices of six by six the calls dominate, and torch's take longer.
    curvature, gradient = sums.curvature.numpy(), sums.gradient.numpy()
    used = np.trace(curvature, axis1=1, axis2=2) > 0
    if int(used.sum()) < _MIN_CELLS:
        return _without_jackknife(sums.curvature.sum(0), prior)
    whole = curvature.sum(0)
    if prior is not None:
        whole = whole + prior.information.numpy()
    # Metres and radians are brought to one scale: lengths are divided by `scale`, information multiplied.
    scale = 1 / np.sqrt(np.maximum(whole.diagonal(), _MIN_EIGENVALUE))
    cells, whole = scale[:, None] * curvature[used] * scale, scale[:, None] * whole * scale
    moves = _moves(cells, whole, gradient[used] * scale)
    inverse, observed = symmetric_inverse(torch.from_numpy(whole)).numpy(), cells.sum(0)
    covariance = _size(moves, observed, whole) * (inverse if prior is None else inverse @ observed @ inverse)
    bound = torch.from_numpy(covariance)
    if prior is not None:
        gain = inverse @ (scale[:, None] * prior.information.numpy())
        bound = _bound(bound, torch.from_numpy(gain @ prior.covariance.numpy() @ gain.T))
    return torch.from_numpy(scale[:, None]) * bound * torch.from_numpy(scale)


def _without_jackknife(curvature: Tensor, prior: Prior | None) -> Tensor:
    """The covariance where too few cells hold observations to measure the correlation."""
    if prior is None:
        return assumed_covariance(curvature)
    inverse = symmetric_inverse(curvature + prior.information)
    gain = inverse @ prior.information
    covariance = _OBSERVATIONS_PER_ERROR * inverse @ curvature @ inverse
    return _bound(covariance, gain @ prior.covariance @ gain.T)


def _moves(cells: np.ndarray, whole: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The moves [K, 6] of the minimum as each cell is left out, about their mean."""
    values, vectors = np.linalg.eigh(whole - cells)
    pulls = (gradient[:, None] @ vectors)[:, 0] / np.maximum(values, _MIN_REMAINING)
    moves = (vectors @ pulls[:, :, None])[:, :, 0]
    return moves - moves.mean(0)


def _size(moves: np.ndarray, observed: np.ndarray, whole: np.ndarray) -> float:
    """The jackknife's covariance relative to whole^-1 observed whole^-1, mean over the observed axes."""
    values, vectors = np.linalg.eigh(observed)
    known = values > _MIN_REMAINING * values[-1]
    whitened = moves @ whole @ vectors[:, known] / np.sqrt(values[known])
    size = (len(moves) - 1) / len(moves) * float((whitened * whitened).sum() / known.sum())
    return max(size, _MIN_SIZE)


def _bound(a: Tensor, b: Tensor) -> Tensor:
    """The covariance of least trace that no correlation of two errors exceeds."""
    sizes = a.trace().sqrt(), b.trace().sqrt()
    if min(sizes) == 0:
        return a + b
    return (1 + sizes[1] / sizes[0]) * a + (1 + sizes[0] / sizes[1]) * b


def with_pose_noise(covariance: Tensor, noise: tuple[float, float]) -> Tensor:
    """A covariance [6, 6] plus the noise of the mapping poses, which one query does not show.

    `noise`: standard deviations per axis of position and rotation. An error of the poses of the few mapping
    views near a query moves all of the map there alike.
    """
    variances = covariance.new_tensor([noise[0] ** 2] * 3 + [noise[1] ** 2] * 3)
    return covariance + torch.diag(variances)


def marginal_information(information: Tensor, count: int) -> Tensor:
    """The information [count, count] float64 of the first parameters where the others are unknown too."""
    return symmetric_inverse(symmetric_inverse(information.double().cpu())[:count, :count])


def assumed_covariance(information: Tensor) -> Tensor:
    """Covariance [K, K] float64 where the correlation of the residuals cannot be measured.

    `information` assumes independent residuals; here a fixed number of them are assumed to share an error.
    """
    return _OBSERVATIONS_PER_ERROR * symmetric_inverse(information.double().cpu())


def assumed_information(covariance: Tensor) -> Tensor:
    """The inverse of `assumed_covariance`, for an estimate that states nothing but a covariance [6, 6]."""
    return _OBSERVATIONS_PER_ERROR * symmetric_inverse(covariance.double().cpu())


def symmetric_inverse(matrix: Tensor) -> Tensor:
    """Inverse of a symmetric positive matrix; metres and radians are brought to one scale first.

    A pseudo-inverse would give an unobserved direction a variance of zero; here it is very large.
    """
    scale = matrix.diagonal().clamp(min=_MIN_EIGENVALUE).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * matrix * scale)
    inverse = vectors / values.clamp(min=_MIN_EIGENVALUE) @ vectors.T
    return scale[:, None] * inverse * scale
