"""A camera's pose as unknowns of a gradient descent: on the manifold, or as quaternion and translation.

GSLoc (Botashev et al. 2024) descends on SE(3) and reports that it converges from further away than with a
quaternion and a translation, the usual choice. In both, one unit of any unknown moves pixels about equally:
a radian of turn, or as many metres of shift as the scene is deep.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor

from gsplatloc.utils import se3

Parametrization = Literal["se3", "quaternion"]
_QUATERNION_PER_RADIAN = 0.5  # a turn by a moves a unit quaternion by a / 2
_BETAS, _EPSILON = (0.9, 0.999), 1e-12  # of Adam


class Motion(Protocol):
    """Unknowns for an optimiser, and the pose that they stand for."""

    unknowns: Tensor  # float64, requires a gradient

    def pose(self) -> Tensor:
        """`cam_from_world` [4, 4] float64, differentiable in the unknowns."""
        ...

    def settle(self) -> None:
        """To be called after every step of the optimiser."""
        ...


class TangentMotion:
    """T <- exp(xi) T: xi [6] is zero whenever the pose is asked for, and folded into it after each step."""

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

    @torch.no_grad()
    def settle(self) -> None:
        self._pose = se3.se3_exp(self.unknowns * self._units) @ self._pose
        self.unknowns.zero_()


class QuaternionMotion:
    """Rotation as a quaternion of any norm, and the translation of cam_from_world: the turn of a camera that
    stands away from the world's origin needs both to move together."""

    def __init__(self, start: Tensor, depth: float):
        """As for `TangentMotion`."""
        start = start.double().cpu()
        quaternion = se3.quaternion_from_rotation(start[:3, :3]) / _QUATERNION_PER_RADIAN
        self._depth = depth
        self.unknowns = torch.cat([quaternion, start[:3, 3] / depth]).requires_grad_()

    def pose(self) -> Tensor:
        rotation = se3.rotation_from_quaternion(self.unknowns[:4])
        return se3.from_rotation_translation(rotation, self.unknowns[4:] * self._depth)

    def settle(self) -> None:
        """Nothing to do: the quaternion is normalised where it is used."""


def make_motion(parametrization: Parametrization, start: Tensor, depth: float) -> Motion:
    """The unknowns of a descent from `start` [4, 4] in a scene `depth` metres deep."""
    return TangentMotion(start, depth) if parametrization == "se3" else QuaternionMotion(start, depth)


def _generators() -> Tensor:
    """[6, 4, 4]: the derivatives of exp(xi) at zero."""
    generators = torch.zeros(6, 4, 4, dtype=torch.float64)
    generators[[0, 1, 2], [0, 1, 2], 3] = 1
    generators[3:, :3, :3] = se3.hat(torch.eye(3, dtype=torch.float64))
    return generators


class Adam:
    """Adam (Kingma & Ba 2015) of a handful of unknowns: torch's own imports its compiler, for seconds."""

    def __init__(self, unknowns: Tensor):
        self._unknowns = unknowns
        self._mean, self._square = (torch.zeros_like(unknowns, requires_grad=False) for _ in range(2))
        self._steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """Move the unknowns in place."""
        self._steps += 1
        self._mean.lerp_(gradient, 1 - _BETAS[0])
        self._square.lerp_(gradient * gradient, 1 - _BETAS[1])
        mean = self._mean / (1 - _BETAS[0] ** self._steps)
        deviation = (self._square / (1 - _BETAS[1] ** self._steps)).sqrt()
        self._unknowns -= rate * mean / (deviation + _EPSILON)
