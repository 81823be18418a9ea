"""Down the valley of an `Alignment`: Adam with steps of equal image motion in every direction."""

import torch
from torch import Tensor

from gsplatloc.localization.alignment.warp_objective import POSE, Alignment
from gsplatloc.localization.pose.pnp import projection_jacobian
from gsplatloc.scene.cameras import Camera

_BETAS = (0.9, 0.99)  # of Adam (Kingma & Ba 2015)
_MIN_RATE = 0.01  # of the first learning rate; below it nothing moves any more
_PROGRESS = 1e-4  # relative decrease of the cost that counts


def fit_exposure(alignment: Alignment, parameters: Tensor) -> Tensor:
    """`parameters` with the gain and bias that best explain the grey values there, robustly."""
    photo, grey = alignment.photo_grey(parameters), alignment.grey
    weight = torch.ones_like(grey)
    design = torch.stack([grey, torch.ones_like(grey)], 1)
    solution = grey.new_tensor([1.0, 0.0])
    for _ in range(3):
        normal = design.T @ (design * weight[:, None])
        normal += 1e-6 * len(grey) * torch.eye(2, dtype=grey.dtype, device=grey.device)
        solution = torch.linalg.solve(normal, design.T @ (photo * weight) + 1e-6 * len(grey) * solution)
        residual = photo - design @ solution
        spread = 1.4826 * residual.abs().median() + 1e-6
        weight = 1 / (1 + (residual / (2 * spread)) ** 2) ** 2
    return torch.cat([parameters[:POSE], solution - solution.new_tensor([1.0, 0.0])])


def descend(alignment: Alignment, start: Tensor, lr: float, patience: int, budget: int) -> Tensor:
    """The best parameters [8] met by at most `budget` steps of preconditioned Adam.

    `lr` is the first step in radians of view; after `patience` steps without progress it falls to a third and
    the search goes on from the best.
    """
    directions = preconditioner(alignment)
    parameters = best = start
    lowest, rate, stale = float("inf"), lr, 0
    mean, square, count = torch.zeros_like(start), torch.zeros_like(start), 0
    for _ in range(budget):
        cost, gradient = alignment.evaluate(parameters)
        stale += 1
        if cost < lowest:
            stale = 0 if cost < lowest * (1 - _PROGRESS) else stale
            lowest, best = cost, parameters
        if stale >= patience:
            rate, stale, count, parameters = rate / 3, 0, 0, best
            if rate < _MIN_RATE * lr:
                break
            _, gradient = alignment.evaluate(best)
        if count == 0:
            mean, square = torch.zeros_like(start), torch.zeros_like(start)
        count += 1
        along = directions.T @ gradient
        mean = _BETAS[0] * mean + (1 - _BETAS[0]) * along
        square = _BETAS[1] * square + (1 - _BETAS[1]) * along * along
        step = mean / (1 - _BETAS[0] ** count) / ((square / (1 - _BETAS[1] ** count)).sqrt() + 1e-12)
        parameters = parameters - rate * (directions @ step)
    return best


def image_motion(camera: Camera, points: Tensor) -> Tensor:
    """[6, 6] M such that xi M xi is the mean square motion of the pixels of points [P, 3], in radians."""
    jacobian = projection_jacobian(points.double().cpu(), camera).flatten(0, 1)
    return jacobian.T @ jacobian / len(points) / camera.fx**2


def preconditioner(alignment: Alignment) -> Tensor:
    """Directions [8, 8], the first six of which move the samples' pixels equally, by one radian of view.

    A learning rate then is an angle of view per step along every direction, be it a turn, a shift, or the
    difference of the two, which moves hardly any pixel.
    """
    values, vectors = torch.linalg.eigh(image_motion(alignment.camera, alignment.points.T))
    directions = torch.eye(POSE + 2, dtype=torch.float64)
    directions[:POSE, :POSE] = vectors / values.clamp(min=1e-8 * values.max()).sqrt()
    return directions.to(alignment.points)
