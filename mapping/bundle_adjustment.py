"""Bundle adjustment of poses and points with Gaussian priors on the poses, positions and rotations alike.

Levenberg-Marquardt over the poses, the points being eliminated (Triggs et al., "Bundle Adjustment: A Modern
Synthesis", 1999): U - W V^-1 W^T, in blocks of tracks of equal length. COLMAP's has priors on positions only,
under which a few views near each other may turn. The system of all poses is dense: 26 MB for 300 views, 7 GB
for 5,000.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.utils import se3

_ITERATIONS = 20
_CONVERGED = 1e-4  # relative decrease of the cost
_HUBER = 2.5  # standard deviations of a prior, beyond which it pulls no stronger
_BLOCKS = 200_000  # pairs of observations whose blocks are in memory at once


@dataclass(frozen=True)
class Observations:
    """Which view sees which point where."""

    view: Tensor  # [K] int64
    point: Tensor  # [K] int64, ascending
    xy: Tensor  # [K, 2] pixels
    intrinsics: Tensor  # [K, 4] fx fy cx cy of the view

    def residuals(self, poses: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """(residuals [K, 2] in pixels, points in the frames of their cameras [K, 3])."""
        pose = poses[self.view]
        seen = (pose[:, :3, :3] @ points[self.point][..., None])[..., 0] + pose[:, :3, 3]
        depth = seen[:, 2:].clamp(min=1e-6)
        return seen[:, :2] / depth * self.intrinsics[:, :2] + self.intrinsics[:, 2:] - self.xy, seen


@dataclass(frozen=True)
class PosePriors:
    """Gaussians of the poses."""

    poses: Tensor  # [N, 4, 4] cam_from_world
    sigmas: tuple[float, float]  # standard deviations per axis: position, rotation in radians

    def system(self, poses: Tensor) -> tuple[Tensor, Tensor, float]:
        """(weights [N, 6] of the tangents, tangents [N, 6] from the priors to `poses`, cost)."""
        tangents = se3.se3_log(poses @ se3.inverse(self.poses))
        weights, cost = [], 0.0
        for part, sigma in zip(tangents.split(3, dim=1), self.sigmas):
            length = part.norm(dim=1, keepdim=True) / sigma
            weight = (_HUBER / length.clamp(min=1e-12)).clamp(max=1.0)
            weights.append((weight / sigma**2).expand(-1, 3))
            cost += float(torch.where(length < _HUBER, length**2, 2 * _HUBER * length - _HUBER**2).sum())
        return torch.cat(weights, 1), tangents, cost


def bundle_adjust(
    observations: Observations, points: Tensor, poses: Tensor, priors: PosePriors, sigma_px: float
) -> tuple[Tensor, Tensor]:
    """(poses [N, 4, 4], points [M, 3]) of least cost: Cauchy for reprojection errors, Huber for priors."""
    damping, cost = 1e-4, _cost(observations, points, poses, priors, sigma_px)
    for _ in range(_ITERATIONS):
        step, move = _step(observations, points, poses, priors, sigma_px, damping)
        moved = se3.se3_exp(step) @ poses
        found = _cost(observations, points + move, moved, priors, sigma_px)
        if not found < cost:
            damping *= 10
            continue
        done = cost - found < _CONVERGED * cost
        points, poses, cost, damping = points + move, moved, found, damping / 3
        if done:
            break
    return poses, points


def _cost(
    observations: Observations, points: Tensor, poses: Tensor, priors: PosePriors, sigma_px: float
) -> float:
    residuals, seen = observations.residuals(poses, points)
    squares = (residuals / sigma_px).square().sum(1)
    squares = torch.where(seen[:, 2] > 0, squares, squares.new_tensor(1e6))
    return float(squares.log1p().sum()) + priors.system(poses)[2]


def _step(
    o: Observations, points: Tensor, poses: Tensor, priors: PosePriors, sigma_px: float, damping: float
) -> tuple[Tensor, Tensor]:
    """(tangents [N, 6] of the poses, moves [M, 3] of the points) of one damped Gauss-Newton step."""
    views, count = len(poses), len(points)
    residuals, seen = o.residuals(poses, points)
    depth = seen[:, 2].clamp(min=1e-6)
    weight = 1 / (sigma_px**2 + residuals.square().sum(1)) * (seen[:, 2] > 0)
    projection = torch.zeros(len(depth), 2, 3, dtype=points.dtype)
    projection[:, 0, 0], projection[:, 1, 1] = (o.intrinsics[:, :2] / depth[:, None]).T
    projection[:, :, 2] = -o.intrinsics[:, :2] * seen[:, :2] / depth[:, None] ** 2
    of_pose = torch.cat([projection, -projection @ se3.hat(seen)], 2)  # [K, 2, 6]
    of_point = projection @ poses[o.view, :3, :3]  # [K, 2, 3]
    weighted = of_pose.transpose(1, 2) * weight[:, None, None]
    prior_weights, tangents, _ = priors.system(poses)
    blocks = torch.zeros(views, 6, 6, dtype=points.dtype).index_add_(0, o.view, weighted @ of_pose)
    blocks += torch.diag_embed(prior_weights)
    blocks += damping * torch.diag_embed(blocks.diagonal(dim1=1, dim2=2))
    right = torch.zeros(views, 6, dtype=points.dtype)
    right.index_add_(0, o.view, (weighted @ residuals[..., None])[..., 0])
    right += prior_weights * tangents
    squares = torch.zeros(count, 3, 3, dtype=points.dtype)
    squares.index_add_(0, o.point, of_point.transpose(1, 2) * weight[:, None, None] @ of_point)
    squares += torch.diag_embed(squares.diagonal(dim1=1, dim2=2) * damping + 1e-12)
    pull = torch.zeros(count, 3, dtype=points.dtype)
    pull.index_add_(0, o.point, (of_point.transpose(1, 2) @ (residuals * weight[:, None])[..., None])[..., 0])
    inverse = torch.linalg.inv(squares)
    mixed = weighted @ of_point  # [K, 6, 3]
    reduced = mixed @ inverse[o.point]
    system = torch.zeros(views * views, 6, 6, dtype=points.dtype)
    system[torch.arange(views) * (views + 1)] = blocks
    _subtract(system, o, reduced, mixed)
    right.index_add_(0, o.view, -(reduced @ pull[o.point][..., None])[..., 0])
    matrix = system.view(views, views, 6, 6).transpose(1, 2).reshape(6 * views, 6 * views)
    step = -torch.linalg.solve(matrix, right.reshape(-1)).view(views, 6)
    back = torch.zeros_like(pull).index_add_(
        0, o.point, (mixed.transpose(1, 2) @ step[o.view][..., None])[..., 0]
    )
    return step, -(inverse @ (pull + back)[..., None])[..., 0]


def _subtract(system: Tensor, observations: Observations, reduced: Tensor, mixed: Tensor) -> None:
    """Subtract W V^-1 W^T from the blocks [N * N, 6, 6] of the views, for all pairs that share a point."""
    lengths = torch.bincount(observations.point)
    starts = lengths.cumsum(0) - lengths
    views = int(len(system) ** 0.5)
    for length in lengths.unique().tolist():
        if not length:
            continue
        first = starts[lengths == length]
        for some in first.split(max(1, _BLOCKS // length**2)):
            rows = some[:, None] + torch.arange(length)  # [P, n]
            view = observations.view[rows]
            product = torch.einsum("pnia,pmja->pnmij", reduced[rows], mixed[rows]).reshape(-1, 6, 6)
            index = (view[:, :, None] * views + view[:, None, :]).reshape(-1)
            system.index_add_(0, index, product, alpha=-1.0)
