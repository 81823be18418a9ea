"""Residuals between a reference image with depth and a query image, and the objective that they make up.

A `ResidualBlock` holds samples of the reference as points in its camera. A pose moves them into the query
image, which is read bilinearly there and compared: grey values, inverse depth or descriptors. The unknowns
are a left perturbation (rho, phi) of the pose, then gain and bias; `normal_equations` returns J^T W J and
J^T W r. The native package sums them without storing J; `reference_equations` computes the same in PyTorch
and is its oracle. An `Objective` adds terms (a block with its effective sample size) and a Gaussian prior;
`levenberg_marquardt` and `adam_descent` minimise it.

The image gradients of the reference, if given, are averaged with those of the query: Efficient Second-order
Minimisation (Benhimane & Malis 2004) converges in 3 steps where the query's gradients alone take 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import native
from gsplatloc.localization.alignment.rendered_view import bilinear
from gsplatloc.utils import robust, se3

POSE = 6  # unknowns rho, phi
UNKNOWNS = 8  # rho, phi, gain, bias
_NEAREST = 1e-2  # metres; a sample that comes closer is out of view


@dataclass(frozen=True)
class GainBias:
    """The query's grey value as a function of the reference's: gain * grey + bias."""

    gain: float = 1.0
    bias: float = 0.0

    def moved(self, step: Tensor) -> "GainBias":
        """After a step [8] of all unknowns."""
        return GainBias(self.gain + step[POSE].item(), self.bias + step[POSE + 1].item())


@dataclass(frozen=True)
class ResidualBlock:
    """Residuals of one kind: I(u) - gain J - bias, D(u) - 1 / z, or F(u) - f, a vector per sample."""

    kind: Literal["photometric", "inverse_depth", "features"]
    points: Tensor  # [3, P] in the reference camera
    reference: Tensor  # [P] grey values or [P, C] descriptors, C a multiple of 16; empty for inverse depth
    image: Tensor  # [H, W] grey values or inverse depth in 1/m, 0 = unknown; or [H, W, C] descriptors
    intrinsics: tuple[float, float, float, float]  # fx, fy, cx, cy in pixels of `image`
    gradients: Tensor | None = None  # [2, P] of the reference's grey values per pixel of `image`

    def __len__(self) -> int:
        return self.points.shape[1]

    @property
    def channels(self) -> int:
        """Coordinates of one residual."""
        return self.reference.shape[1] if self.kind == "features" else 1

    def select(self, index: Tensor) -> "ResidualBlock":
        """The samples at `index` [K]."""
        return replace(
            self,
            points=self.points.index_select(1, index),
            reference=self.reference if self.kind == "inverse_depth" else self.reference[index],
            gradients=None if self.gradients is None else self.gradients.index_select(1, index),
        )

    @cached_property
    def native(self) -> Any:
        """The block in the form of the native package; None where that is not installed."""
        package = native.alignment() if self.points.device.type == "cpu" else None
        if package is None:
            return None
        fields = (self.kind, self.points, self.reference, self.image, self.intrinsics, self.gradients)
        return package.AlignmentBlock(*fields)


@dataclass(frozen=True)
class NormalEquations:
    """The quadratic model of the robust cost at a pose: cost + gradient d + d hessian d / 2."""

    hessian: Tensor  # [8, 8] float64, J^T W J; zero for unknowns on which the block does not depend
    gradient: Tensor  # [8] float64, J^T W r
    cost: float  # sum of the Geman-McClure costs (`utils.robust`); 2 for each sample out of view
    seen: int  # samples in view
    residuals: Tensor  # [P], of descriptors their norm, NaN for samples out of view


def normal_equations(
    block: ResidualBlock, query_from_reference: Tensor, sigma: float, exposure: GainBias
) -> NormalEquations:
    """Sum `block` at a pose [4, 4], natively if possible; `sigma` is the standard deviation of an inlier."""
    package = native.alignment()
    if package is None or block.native is None:
        return reference_equations(block, query_from_reference, sigma, exposure)
    residuals = torch.empty_like(block.points[0])
    sums = package.normal_equations(
        block.native, query_from_reference, sigma, (exposure.gain, exposure.bias), residuals
    )
    return NormalEquations(sums.hessian, sums.gradient, sums.cost, sums.seen, residuals)


def reference_equations(
    block: ResidualBlock, query_from_reference: Tensor, sigma: float, exposure: GainBias
) -> NormalEquations:
    """The definition of `normal_equations`, in PyTorch on any device."""
    at = _linearised(block, query_from_reference, sigma, exposure)
    square = (at.residual * at.residual).sum(1)
    scaled = square / (4 * sigma * sigma)
    weighted = at.jacobian * at.weight[:, None, None]
    return NormalEquations(
        torch.einsum("pci,pcj->ij", weighted, at.jacobian).double().cpu(),
        torch.einsum("pci,pc->i", weighted, at.residual).double().cpu(),
        torch.where(at.seen, robust.cost(scaled), 2.0).sum().item(),
        int(at.seen.sum()),
        torch.where(at.seen, square.sqrt() if block.kind == "features" else at.residual[:, 0], torch.nan),
    )


def cell_equations(
    block: ResidualBlock,
    query_from_reference: Tensor,
    sigma: float,
    exposure: GainBias,
    cells: Tensor,
    count: int,
) -> tuple[Tensor, Tensor]:
    """J^T W J [count, 8, 8] and J^T W r [count, 8] float64 of the samples of each of `count` cells.

    `cells` [P] is the cell of each sample, on the CPU. Raises ValueError for a cell of `count` or more.
    """
    order, sizes = cells.argsort(stable=True), cells.bincount(minlength=count)
    if len(sizes) > count:
        raise ValueError(f"expected cells below {count}, found cell {len(sizes) - 1}")
    package, ordered = native.alignment(), block.select(order.to(block.points.device))
    if package is None or ordered.native is None:
        return reference_cell_equations(ordered, query_from_reference, sigma, exposure, sizes.tolist())
    begin = F.pad(sizes.cumsum(0), (1, 0))
    sums: tuple[Tensor, Tensor] = package.group_equations(
        ordered.native, query_from_reference, sigma, (exposure.gain, exposure.bias), begin
    )
    return sums


def reference_cell_equations(
    block: ResidualBlock,
    query_from_reference: Tensor,
    sigma: float,
    exposure: GainBias,
    sizes: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """The definition of `cell_equations`, of samples that lie cell by cell, `sizes` [K] of each."""
    at = _linearised(block, query_from_reference, sigma, exposure)
    jacobian, residual = at.jacobian.double().cpu(), at.residual.double().cpu()
    weighted = jacobian * at.weight.double().cpu()[:, None, None]
    parts = [each.split(sizes) for each in (weighted, jacobian, residual)]
    hessian = torch.zeros(len(sizes), UNKNOWNS, UNKNOWNS, dtype=torch.float64)
    gradient = torch.zeros(len(sizes), UNKNOWNS, dtype=torch.float64)
    for cell, (factor, derivative, error) in enumerate(zip(*parts)):
        transposed = factor.flatten(0, 1).T  # [8, samples x channels]
        hessian[cell] = transposed @ derivative.flatten(0, 1)
        gradient[cell] = transposed @ error.flatten()
    return hessian, gradient


class _Linearised(NamedTuple):
    """The residuals of a block at a pose, with their derivatives; zero for samples out of view."""

    jacobian: Tensor  # [P, C, 8]
    residual: Tensor  # [P, C]
    weight: Tensor  # [P] robust weight / sigma^2
    seen: Tensor  # [P] bool


def _linearised(
    block: ResidualBlock, query_from_reference: Tensor, sigma: float, exposure: GainBias
) -> _Linearised:
    fx, fy, cx, cy = block.intrinsics
    motion = query_from_reference.to(block.points)
    local = motion[:3, :3] @ block.points + motion[:3, 3:]
    front = local[2] > _NEAREST
    inverse = 1 / torch.where(front, local[2], torch.ones_like(local[2]))
    u, v = local[0] * fx * inverse + cx, local[1] * fy * inverse + cy
    read = bilinear(block.image if block.image.ndim == 3 else block.image[:, :, None], u, v)
    gradient, seen = read.gradients, front & read.inside
    if block.kind == "inverse_depth":
        seen = seen & read.known
        residual = read.values - inverse[:, None]
    else:
        gain, bias = (exposure.gain, exposure.bias) if block.kind == "photometric" else (1.0, 0.0)
        residual = read.values - gain * block.reference.reshape(len(block), -1) - bias
        if block.gradients is not None:
            gradient = 0.5 * (gradient + gain * block.gradients[:, :, None])
    # A weight of 0 is not enough for samples out of view: they may be NaN.
    jacobian = torch.where(seen[:, None, None], _jacobian(block, local, inverse, gradient), 0.0)
    residual = torch.where(seen[:, None], residual, 0.0)
    scaled = (residual * residual).sum(1) / (4 * sigma * sigma)
    return _Linearised(jacobian, residual, seen * robust.weight(scaled) / (sigma * sigma), seen)


def _jacobian(block: ResidualBlock, local: Tensor, inverse: Tensor, gradient: Tensor) -> Tensor:
    """Derivatives [P, C, 8] of the residuals; `gradient` [2, P, C] per pixel, points `local` [3, P]."""
    fx, fy, _, _ = block.intrinsics
    by_x, by_y = gradient[0] * (fx * inverse)[:, None], gradient[1] * (fy * inverse)[:, None]
    by_z = -(by_x * local[0][:, None] + by_y * local[1][:, None]) * inverse[:, None]
    if block.kind == "inverse_depth":
        by_z = by_z + (inverse * inverse)[:, None]
    by_point = torch.stack([by_x, by_y, by_z], 2)  # [P, C, 3]
    by_rotation = -by_point @ se3.hat(local.T)
    by_exposure = torch.zeros(*by_x.shape, 2).to(by_point)
    if block.kind == "photometric":
        by_exposure[:, 0, 0] = -block.reference
        by_exposure[:, 0, 1] = -1
    return torch.cat([by_point, by_rotation, by_exposure], 2)


@dataclass(frozen=True)
class Term:
    """A block with its weight. Neighbouring samples share errors: they are not independent observations."""

    block: ResidualBlock
    sample_size: float  # effective: the number of independent residuals that all samples count as
    min_sigma: float  # of the residuals: no smaller noise is assumed

    @property
    def weight(self) -> float:
        """The information weight of one sample."""
        return self.sample_size / max(len(self.block), 1)


@dataclass(frozen=True)
class GaussianPrior:
    """The Gaussian term of a cost: the pose known from elsewhere."""

    pose: Tensor  # [4, 4] float64, query from reference
    information: Tensor  # [6, 6] float64

    @cached_property
    def inverse_pose(self) -> np.ndarray:
        """Reference from query [4, 4]."""
        return np.linalg.inv(self.pose.numpy())


@dataclass(frozen=True)
class State:
    """A pose and exposure with the objective's quadratic model there."""

    pose: Tensor  # [4, 4] float64, query from reference
    exposure: GainBias
    sigmas: tuple[float, ...]  # standard deviations of the terms' inlier residuals
    cost: float
    hessian: Tensor  # [8, 8]
    gradient: Tensor  # [8]
    equations: tuple[NormalEquations, ...]  # of the terms
    iterations: int = 0  # steps tried by the minimiser

    def retracted(self, step: Tensor) -> tuple[Tensor, GainBias]:
        """Pose and exposure after a step [8]."""
        moved = torch.from_numpy(se3.se3_exp_numpy(step[:POSE].numpy())) @ self.pose
        return moved, self.exposure.moved(step)


@dataclass(frozen=True)
class Objective:
    """A robust negative log likelihood of pose and exposure: terms and, where given, a Gaussian prior."""

    terms: Sequence[Term]
    prior: GaussianPrior | None = None

    def evaluate(self, pose: Tensor, exposure: GainBias, sigmas: tuple[float, ...]) -> State:
        """The sum over all terms, and half the squared Mahalanobis distance from the prior."""
        hessian = torch.zeros(UNKNOWNS, UNKNOWNS, dtype=torch.float64)
        gradient = torch.zeros(UNKNOWNS, dtype=torch.float64)
        cost = 0.0
        if self.prior is not None:
            away = se3.se3_log_numpy(pose.numpy() @ self.prior.inverse_pose)
            pull = self.prior.information @ torch.from_numpy(away)
            hessian[:POSE, :POSE] = self.prior.information
            gradient[:POSE] = pull
            cost = 0.5 * float(away @ pull.numpy())
        equations = []
        for term, sigma in zip(self.terms, sigmas, strict=True):
            found = normal_equations(term.block, pose, sigma, exposure)
            hessian += term.weight * found.hessian
            gradient += term.weight * found.gradient
            cost += term.weight * found.cost
            equations.append(found)
        return State(pose, exposure, sigmas, cost, hessian, gradient, tuple(equations))

    def moved(self, state: State, step: Tensor) -> State:
        """Evaluated after a step [8] from `state`, with the same noise."""
        return self.evaluate(*state.retracted(step), state.sigmas)

    def with_measured_noise(self, state: State) -> State:
        """The same pose; each term's noise is the robust standard deviation of its residuals there."""
        sigmas = tuple(
            max(noise(found.residuals), term.min_sigma) for term, found in zip(self.terms, state.equations)
        )
        return self.evaluate(state.pose, state.exposure, sigmas)

    def start(self, pose: Tensor, exposure: GainBias | None = None) -> State:
        """Evaluated at a pose [4, 4] with the noise measured there."""
        ones = (1.0,) * len(self.terms)
        return self.with_measured_noise(self.evaluate(pose, exposure or GainBias(), ones))


def noise(residuals: Tensor) -> float:
    """Robust standard deviation of residuals without NaN: 1.4826 times the median of the absolute values."""
    sizes = residuals[~residuals.isnan()].abs()
    return 1.4826 * sizes.median().item() if len(sizes) else 0.0


def correlation(term: Term, state: State, index: int = 0) -> float:
    """Correlation in [-1, 1] between query and reference at the samples in view of a photometric term."""
    residuals, reference = state.equations[index].residuals, term.block.reference
    seen = ~residuals.isnan()
    if int(seen.sum()) < 2:
        return 0.0
    shown = residuals[seen] + state.exposure.gain * reference[seen] + state.exposure.bias
    pair = torch.stack([shown - shown.mean(), reference[seen] - reference[seen].mean()])
    return F.cosine_similarity(pair[0], pair[1], dim=0).item()
