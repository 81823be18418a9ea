"""Residuals between a reference image with depth and a query image, as normal equations of the pose.

Samples of the reference are points in its camera. A pose moves them into the query, where a value is read
bilinearly and compared: grey values, inverse depth or descriptors. What leaves this file is J^T W J and
J^T W r over eight unknowns: a left perturbation (rho, phi), then gain and bias of the exposure. The native
package sums them without ever storing J; without it the same is computed here, which is also its oracle.

`slopes`, those of the reference, are averaged with those of the query: Efficient Second-order Minimisation
(Benhimane & Malis 2004) converges in 3 steps where the query's slopes alone take 10.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import native
from gsplatloc.utils import se3

POSE = 6
UNKNOWNS = 8  # rho, phi, gain, bias
_NEAREST = 1e-2  # metres; a sample that comes closer has left the view


@dataclass(frozen=True)
class Exposure:
    """What turns the reference's grey value into the query's: gain * grey + bias."""

    gain: float = 1.0
    bias: float = 0.0

    def moved(self, step: Tensor) -> "Exposure":
        """After a step [8] of all unknowns."""
        return Exposure(self.gain + step[POSE].item(), self.bias + step[POSE + 1].item())


@dataclass(frozen=True)
class ResidualBlock:
    """Residuals of one kind: I(u) - gain J - bias, D(u) - 1 / z, or F(u) - f, its square over channels."""

    kind: Literal["photometric", "inverse_depth", "features"]
    points: Tensor  # [3, P] in the reference camera
    reference: Tensor  # [P] grey values or [P, C] descriptors, C a multiple of 16; nothing for inverse depth
    image: Tensor  # [H, W] grey values or inverse depth in 1/m, 0 = unknown; or [H, W, C] descriptors
    intrinsics: tuple[float, float, float, float]  # fx, fy, cx, cy in pixels of `image`
    slopes: Tensor | None = None  # [2, P] of grey values per pixel of the reference, as large as the image's

    def __len__(self) -> int:
        return self.points.shape[1]


@dataclass(frozen=True)
class NormalEquations:
    """The quadratic model of the robust cost at a pose: cost + gradient d + d hessian d / 2."""

    hessian: Tensor  # [8, 8] float64, J^T W J; zero for unknowns that the block does not know
    gradient: Tensor  # [8] float64, J^T W r
    cost: float  # Geman-McClure: r^2 / 2 sigma^2 for small r, never above 2; 2 for samples out of view
    seen: int  # samples in view
    residuals: Tensor  # [P], of descriptors their norm, NaN for samples out of view


def normal_equations(
    block: ResidualBlock, query_from_reference: Tensor, sigma: float, exposure: Exposure
) -> NormalEquations:
    """Sum `block` at a pose [4, 4], natively where that is possible; `sigma` deviates what agrees."""
    package = native.alignment() if block.points.device.type == "cpu" else None
    if package is None:
        return reference_equations(block, query_from_reference, sigma, exposure)
    fields = (block.kind, block.points, block.reference, block.image, block.intrinsics, block.slopes)
    residuals = torch.empty_like(block.points[0])
    sums = package.normal_equations(
        package.AlignmentBlock(*fields),
        query_from_reference,
        sigma,
        (exposure.gain, exposure.bias),
        residuals,
    )
    return NormalEquations(sums.hessian, sums.gradient, sums.cost, sums.seen, residuals)


def reference_equations(
    block: ResidualBlock, query_from_reference: Tensor, sigma: float, exposure: Exposure
) -> NormalEquations:
    """What `normal_equations` means, readable and on any device."""
    fx, fy, cx, cy = block.intrinsics
    motion = query_from_reference.to(block.points)
    local = motion[:3, :3] @ block.points + motion[:3, 3:]
    front = local[2] > _NEAREST
    inverse = 1 / torch.where(front, local[2], torch.ones_like(local[2]))
    u, v = local[0] * fx * inverse + cx, local[1] * fy * inverse + cy
    value, slope, inside, least = _read(block.image, u, v)
    seen = front & inside
    if block.kind == "inverse_depth":
        seen = seen & (least > 0)
        residual = value - inverse[:, None]
    else:
        gain, bias = (exposure.gain, exposure.bias) if block.kind == "photometric" else (1.0, 0.0)
        residual = value - gain * block.reference.reshape(len(block), -1) - bias
        if block.slopes is not None:
            slope = 0.5 * (slope + gain * block.slopes[:, :, None])
    # A weight of 0 is not enough for what is out of view: it may be NaN.
    jacobian = torch.where(seen[:, None, None], _jacobian(block, local, inverse, slope), 0.0)
    residual = torch.where(seen[:, None], residual, 0.0)
    square = (residual * residual).sum(1)
    s = square / (4 * sigma * sigma)
    weight = seen / ((1 + s) ** 2 * sigma * sigma)
    weighted = jacobian * weight[:, None, None]
    return NormalEquations(
        torch.einsum("pci,pcj->ij", weighted, jacobian).double().cpu(),
        torch.einsum("pci,pc->i", weighted, residual).double().cpu(),
        torch.where(seen, 2 * s / (1 + s), 2.0).sum().item(),
        int(seen.sum()),
        torch.where(seen, square.sqrt() if block.kind == "features" else residual[:, 0], torch.nan),
    )


def _jacobian(block: ResidualBlock, local: Tensor, inverse: Tensor, slope: Tensor) -> Tensor:
    """Derivatives [P, C, 8] of the residuals; `slope` [2, P, C] per pixel, points `local` [3, P]."""
    fx, fy, _, _ = block.intrinsics
    by_x, by_y = slope[0] * (fx * inverse)[:, None], slope[1] * (fy * inverse)[:, None]
    by_z = -(by_x * local[0][:, None] + by_y * local[1][:, None]) * inverse[:, None]
    if block.kind == "inverse_depth":
        by_z = by_z + (inverse * inverse)[:, None]
    by_point = torch.stack([by_x, by_y, by_z], 2)  # [P, C, 3]
    turn = -by_point @ se3.hat(local.T)
    by_exposure = torch.zeros(*by_x.shape, 2).to(by_point)
    if block.kind == "photometric":
        by_exposure[:, 0, 0] = -block.reference
        by_exposure[:, 0, 1] = -1
    return torch.cat([by_point, turn, by_exposure], 2)


def _read(image: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bilinear values [P, C], slopes [2, P, C], which are inside [P], and the least of the neighbours [P]."""
    grid = image if image.ndim == 3 else image[:, :, None]
    height, width, _ = grid.shape
    x, y = u - 0.5, v - 0.5
    inside = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1)
    x, y = torch.where(inside, x, 0.0), torch.where(inside, y, 0.0)
    column, row = x.long(), y.long()
    right, below = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    a, b, c, d = grid[row, column], grid[row, right], grid[below, column], grid[below, right]
    fx, fy = (x - column)[:, None], (y - row)[:, None]
    along_x, along_y = torch.lerp(b - a, d - c, fy), torch.lerp(c - a, d - b, fx)
    least = torch.stack([a, b, c, d]).amin((0, 2))
    return a + fx * (b - a) + fy * along_y, torch.stack([along_x, along_y]), inside, least
