"""Bundle adjustment of poses, points and the lens with Gaussian priors on the poses, positions and rotations.

The lens is one coefficient of radial distortion, common to all views, or none: cameras of phones and depth
sensors are stated as pinhole cameras, and poses that are fitted to their images without it are turned.
Levenberg-Marquardt over poses and lens, the points being eliminated (Triggs et al., "Bundle Adjustment: A
Modern Synthesis", 1999): U - W V^-1 W^T, in blocks of tracks of equal length. COLMAP's has priors on
positions only, under which a few views near each other may turn. The system of all poses is dense: 26 MB for
300 views, 7 GB for 5,000.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.utils import se3

_ITERATIONS = 20
_CONVERGED = 1e-4  # relative decrease of the cost
_HUBER = 2.5  # standard deviations of a prior, beyond which it pulls no stronger
_LEAST_DEPTH = 1e-6
_BLOCKS = 200_000  # pairs of observations whose blocks are in memory at once


@dataclass(frozen=True)
class Model:
    """What is adjusted."""

    poses: Tensor  # [N, 4, 4] cam_from_world
    points: Tensor  # [M, 3] world
    radial: float = 0.0  # a point at normalised (x, y) is seen at (x, y) * (1 + radial * (x^2 + y^2))

    def moved(self, step: "_Step") -> "Model":
        poses = se3.se3_exp(step.poses) @ self.poses
        return Model(poses, self.points + step.points, self.radial + step.radial)


@dataclass(frozen=True)
class _Step:
    poses: Tensor  # [N, 6] tangents
    points: Tensor  # [M, 3]
    radial: float


@dataclass(frozen=True)
class Observations:
    """Which view sees which point where."""

    view: Tensor  # [K] int64
    point: Tensor  # [K] int64, ascending
    xy: Tensor  # [K, 2] pixels
    intrinsics: Tensor  # [K, 4] fx fy cx cy of the view

    def residuals(self, model: Model) -> tuple[Tensor, Tensor]:
        """(residuals [K, 2] in pixels, points in the frames of their cameras [K, 3])."""
        pose = model.poses[self.view]
        seen = (pose[:, :3, :3] @ model.points[self.point][..., None])[..., 0] + pose[:, :3, 3]
        normalised = _normalised(seen)
        distorted = normalised * (1 + model.radial * normalised.square().sum(1, keepdim=True))
        return distorted * self.intrinsics[:, :2] + self.intrinsics[:, 2:] - self.xy, seen

    def jacobians(self, model: Model, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of the residuals by pose [K, 2, 6], point [K, 2, 3] and distortion [K, 2, 1].

        `seen`: the points in the frames of their cameras.
        """
        normalised, focal = _normalised(seen), self.intrinsics[:, :2, None]
        radius = normalised.square().sum(1)[:, None, None]
        ray = torch.zeros(len(seen), 2, 3, dtype=seen.dtype)
        ray[:, 0, 0] = ray[:, 1, 1] = 1.0
        ray[:, :, 2] = -normalised
        ray /= seen[:, 2, None, None].clamp(min=_LEAST_DEPTH)
        outer = normalised[:, :, None] * normalised[:, None, :]
        distortion = (1 + model.radial * radius) * torch.eye(2, dtype=seen.dtype) + 2 * model.radial * outer
        projection = focal * (distortion @ ray)
        of_pose = torch.cat([projection, -projection @ se3.hat(seen)], 2)
        of_radial = focal * normalised[:, :, None] * radius
        return of_pose, projection @ model.poses[self.view, :3, :3], of_radial


def _normalised(seen: Tensor) -> Tensor:
    """Points [K, 3] of a camera's frame on the plane at depth 1, [K, 2]."""
    return seen[:, :2] / seen[:, 2:].clamp(min=_LEAST_DEPTH)


@dataclass(frozen=True)
class PosePriors:
    """Gaussians of the poses and of the radial distortion, whose mean is 0."""

    poses: Tensor  # [N, 4, 4] cam_from_world
    sigmas: tuple[float, float]  # standard deviations per axis: position, rotation in radians
    radial_sigma: float = 0.1  # 0: the distortion stays as it is

    @property
    def radial_weight(self) -> float:
        return 1 / self.radial_sigma**2 if self.radial_sigma else 0.0

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


def bundle_adjust(observations: Observations, model: Model, priors: PosePriors, sigma_px: float) -> Model:
    """The model of least cost: Cauchy for reprojection errors, Huber for priors."""
    damping, cost = 1e-4, _cost(observations, model, priors, sigma_px)
    for _ in range(_ITERATIONS):
        moved = model.moved(_step(observations, model, priors, sigma_px, damping))
        found = _cost(observations, moved, priors, sigma_px)
        if not found < cost:
            damping *= 10
            continue
        done = cost - found < _CONVERGED * cost
        model, cost, damping = moved, found, damping / 3
        if done:
            break
    return model


def _cost(observations: Observations, model: Model, priors: PosePriors, sigma_px: float) -> float:
    residuals, seen = observations.residuals(model)
    squares = (residuals / sigma_px).square().sum(1)
    squares = torch.where(seen[:, 2] > 0, squares, squares.new_tensor(1e6))
    of_priors = priors.system(model.poses)[2] + priors.radial_weight * model.radial**2
    return float(squares.log1p().sum()) + of_priors


def _step(o: Observations, model: Model, priors: PosePriors, sigma_px: float, damping: float) -> _Step:
    """One damped Gauss-Newton step.

    Without the points, [S b; b^T c] [xi; k] = -r; S is of the poses, b (`border`) and c (`corner`) of the
    distortion.
    """
    views, count, dtype = len(model.poses), len(model.points), model.points.dtype
    residuals, seen = o.residuals(model)
    root = ((seen[:, 2] > 0) / (sigma_px**2 + residuals.square().sum(1))).sqrt()[:, None, None]
    of_pose, of_point, of_radial = (root * each for each in o.jacobians(model, seen))
    residual = root * residuals[..., None]
    prior_weights, tangents, _ = priors.system(model.poses)

    def of_views(values: Tensor) -> Tensor:
        return torch.zeros(views, *values.shape[1:], dtype=dtype).index_add_(0, o.view, values)

    def of_points(values: Tensor) -> Tensor:
        return torch.zeros(count, *values.shape[1:], dtype=dtype).index_add_(0, o.point, values)

    blocks = of_views(of_pose.mT @ of_pose) + torch.diag_embed(prior_weights)
    blocks += damping * torch.diag_embed(blocks.diagonal(dim1=1, dim2=2))
    squares = of_points(of_point.mT @ of_point)
    squares += torch.diag_embed(squares.diagonal(dim1=1, dim2=2) * damping + 1e-12)
    inverse, pull = torch.linalg.inv(squares), of_points(of_point.mT @ residual)
    lens = of_points(of_point.mT @ of_radial)  # [M, 3, 1]
    mixed = of_pose.mT @ of_point  # [K, 6, 3]
    reduced = mixed @ inverse[o.point]
    system = torch.zeros(views * views, 6, 6, dtype=dtype)
    system[torch.arange(views) * (views + 1)] = blocks
    _subtract(system, o, reduced, mixed)
    matrix = system.view(views, views, 6, 6).transpose(1, 2).reshape(6 * views, 6 * views)
    border = of_views(of_pose.mT @ of_radial - reduced @ lens[o.point]).reshape(-1, 1)
    corner = (1 + damping) * (of_radial.square().sum() + priors.radial_weight)
    corner -= (lens.mT @ inverse @ lens).sum()
    right = of_views(of_pose.mT @ residual - reduced @ pull[o.point])[..., 0] + prior_weights * tangents
    last = (of_radial * residual).sum() + model.radial * priors.radial_weight
    last -= (lens.mT @ inverse @ pull).sum()
    matrix = torch.cat([torch.cat([matrix, border], 1), torch.cat([border.T, corner.view(1, 1)], 1)])
    right = torch.cat([right.reshape(-1), last.view(1)])
    step, free = torch.zeros_like(right), slice(6 * views + (priors.radial_sigma > 0))
    step[free] = -torch.linalg.solve(matrix[free, free], right[free])
    tangent, radial = step[:-1].view(views, 6), float(step[-1])
    back = of_points(mixed.mT @ tangent[o.view][..., None])
    return _Step(tangent, -(inverse @ (pull + back + radial * lens))[..., 0], radial)


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
