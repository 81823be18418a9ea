"""Adam for a camera's pose: the optimiser, parametrisations of the pose, and the descent of an `Objective`.

GSLoc (Botashev et al. 2024) descends on SE(3) and reports that it converges from further away than with a
quaternion and a translation, the usual choice. In both parametrisations one unit of any unknown moves pixels
about equally: a radian of rotation, or a translation by the depth of the scene.
"""

from typing import Protocol

import torch
from torch import Tensor

from gsplatloc.localization.alignment.options import AdamOptions, Parametrization
from gsplatloc.localization.alignment.residuals import POSE, UNKNOWNS, Objective, ResidualBlock, State
from gsplatloc.localization.pose.pnp import projection_jacobian
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

_QUATERNION_PER_RADIAN = 0.5  # a rotation by a changes a unit quaternion by a / 2
_EPSILON = 1e-12
_FAST_BETAS = (0.9, 0.99)  # of `adam_descent`, whose gradients are not of random samples
_MIN_RATE = 0.01  # of the first learning rate: the descent ends below it
_PROGRESS = 1e-4  # relative decrease of the cost that counts as progress


class Adam:
    """Adam (Kingma & Ba 2015) of a few unknowns; importing torch.optim takes seconds."""

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999)):
        self._betas = betas
        self._mean: Tensor | float = 0.0
        self._square: Tensor | float = 0.0
        self._steps = 0

    def step(self, gradient: Tensor) -> Tensor:
        """The step for a learning rate of 1, to be added to the unknowns."""
        first, second = self._betas
        self._steps += 1
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient * gradient
        mean = self._mean / (1 - first**self._steps)
        deviation = (self._square / (1 - second**self._steps)).sqrt()
        return -mean / (deviation + _EPSILON)


class PoseParametrization(Protocol):
    """Unknowns for an optimiser, and the pose that they represent."""

    unknowns: Tensor  # float64, requires a gradient

    def pose(self) -> Tensor:
        """`cam_from_world` [4, 4] float64, differentiable in the unknowns."""
        ...

    def retract(self, step: Tensor) -> None:
        """Move the pose by a step of the unknowns."""
        ...


class TangentPose:
    """T <- exp(xi) T: the unknowns xi [6] are zero whenever the pose is evaluated."""

    def __init__(self, start: Tensor, depth: float):
        """`start` [4, 4]; `depth` of the scene in metres."""
        self._pose = start.double().cpu()
        self._units = torch.tensor([depth] * 3 + [1.0] * 3, dtype=torch.float64)
        self._generators = _generators()
        self.unknowns = torch.zeros(6, dtype=torch.float64, requires_grad=True)

    def pose(self) -> Tensor:
        # At xi = 0 the first order of exp(xi) has its value and derivative, for a tenth of the operations.
        step = torch.einsum("k,kij->ij", self.unknowns * self._units, self._generators)
        return self._pose + step @ self._pose

    def retract(self, step: Tensor) -> None:
        self._pose = torch.from_numpy(se3.se3_exp_numpy((step * self._units).numpy())) @ self._pose


class QuaternionPose:
    """A quaternion of any norm, and the translation of cam_from_world.

    The rotation of a camera away from the world's origin changes both together.
    """

    def __init__(self, start: Tensor, depth: float):
        """As for `TangentPose`."""
        start = start.double().cpu()
        quaternion = se3.quaternion_from_rotation(start[:3, :3]) / _QUATERNION_PER_RADIAN
        self._depth = depth
        self.unknowns = torch.cat([quaternion, start[:3, 3] / depth]).requires_grad_()

    def pose(self) -> Tensor:
        rotation = se3.rotation_from_quaternion(self.unknowns[:4])
        return se3.from_rotation_translation(rotation, self.unknowns[4:] * self._depth)

    @torch.no_grad()
    def retract(self, step: Tensor) -> None:
        self.unknowns += step


def parametrized(kind: Parametrization, start: Tensor, depth: float) -> PoseParametrization:
    """The unknowns of a descent from `start` [4, 4] in a scene `depth` metres deep."""
    return TangentPose(start, depth) if kind == "se3" else QuaternionPose(start, depth)


def _generators() -> Tensor:
    """[6, 4, 4]: the derivatives of exp(xi) at zero."""
    generators = torch.zeros(6, 4, 4, dtype=torch.float64)
    generators[[0, 1, 2], [0, 1, 2], 3] = 1
    generators[3:, :3, :3] = se3.hat(torch.eye(3, dtype=torch.float64))
    return generators


def adam_descent(objective: Objective, start: Tensor, options: AdamOptions) -> State:
    """The state of least cost among the steps of Adam from `start` [4, 4], query from reference.

    When the learning rate falls, the descent continues from the best state so far. The image gradients
    of the rendering, averaged in, are less noisy than the photo's: without them `warp` is 12 % less accurate.
    """
    directions = equal_motion_directions(objective.terms[0].block)
    state = best = objective.start(start)
    rate, stale, adam = options.lr, 0, Adam(_FAST_BETAS)
    for _ in range(options.iterations):
        step = directions @ adam.step(directions.T @ state.gradient)
        state = objective.moved(state, rate * step)
        stale = 0 if state.cost < best.cost * (1 - _PROGRESS) else stale + 1
        best = state if state.cost < best.cost else best
        if stale >= options.patience:
            rate, stale, state, adam = rate / 3, 0, best, Adam(_FAST_BETAS)
            if rate < _MIN_RATE * options.lr:
                break
    return best


def image_motion(camera: Camera, points: Tensor) -> Tensor:
    """[6, 6] M such that xi M xi is the mean square motion of the pixels of points [P, 3], in radians."""
    jacobian = projection_jacobian(points.double().cpu(), camera).flatten(0, 1)
    return jacobian.T @ jacobian / len(points) / camera.fx**2


def equal_motion_directions(block: ResidualBlock) -> Tensor:
    """Directions [8, 8] as columns: the first six move the block's pixels equally, by one radian of view.

    A rotation and a translation look alike indoors: their difference moves hardly any pixel, and Adam on xi
    itself would advance slowly along it.
    """
    height, width = block.image.shape[:2]
    values, vectors = torch.linalg.eigh(
        image_motion(Camera(width, height, *block.intrinsics), block.points.T)
    )
    directions = torch.eye(UNKNOWNS, dtype=torch.float64)
    directions[:POSE, :POSE] = vectors / values.clamp(min=1e-8 * values.max()).sqrt()
    return directions
