"""Adam, and two parametrisations of a pose: the same pose, the same descent."""

import pytest
import torch

from gsplatloc.localization.alignment.adam import (
    Adam,
    PoseParametrization,
    QuaternionPose,
    TangentPose,
    parametrized,
)
from gsplatloc.utils import se3

START = se3.se3_exp(torch.tensor([0.3, -0.2, 0.5, 0.4, -0.3, 0.2], dtype=torch.float64))
DEPTH = 2.5


@pytest.mark.parametrize("kind", (TangentPose, QuaternionPose))
def test_a_parametrisation_begins_at_its_start(kind: type) -> None:
    torch.testing.assert_close(kind(START, DEPTH).pose().detach(), START)


def test_the_gradient_of_a_tangent_is_that_of_the_exponential() -> None:
    weights = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    motion = TangentPose(START, DEPTH)
    (motion.pose() * weights).sum().backward()
    xi = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    units = torch.tensor([DEPTH] * 3 + [1.0] * 3, dtype=torch.float64)
    ((se3.se3_exp(xi * units) @ START) * weights).sum().backward()
    torch.testing.assert_close(motion.unknowns.grad, xi.grad)


def _stepped(unknowns: PoseParametrization) -> torch.Tensor:
    """The pose after many small steps down the distance to a pose nearby."""
    goal = se3.se3_exp(torch.tensor([0.05, 0.02, -0.04, 0.03, 0.02, -0.05], dtype=torch.float64)) @ START
    adam, rate = Adam(), 3e-3
    for _ in range(400):
        loss = (unknowns.pose() - goal).square().sum()
        unknowns.retract(rate * adam.step(torch.autograd.grad(loss, unknowns.unknowns)[0]))
        rate *= 0.985
    return unknowns.pose().detach() @ se3.inverse(goal)


@pytest.mark.parametrize("name", ("se3", "quaternion"))
def test_a_descent_arrives_and_stays_a_rigid_motion(name: str) -> None:
    away = _stepped(parametrized(name, START, DEPTH))  # type: ignore[arg-type]
    torch.testing.assert_close(away, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-3)


def test_a_radian_and_a_depth_weigh_alike() -> None:
    """Either moves the pixels of a point straight ahead by about the focal length."""
    for index in (0, 4):
        unknowns = TangentPose(torch.eye(4, dtype=torch.float64), DEPTH)
        unknowns.retract(0.01 * torch.eye(6, dtype=torch.float64)[index])
        point = unknowns.pose().detach() @ torch.tensor([0.0, 0.0, DEPTH, 1.0], dtype=torch.float64)
        assert (point[0] / point[2]).item() == pytest.approx(0.01, rel=0.01)


def test_adam_is_that_of_torch() -> None:
    ours = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    adam, reference = Adam(), torch.optim.Adam([theirs], lr=0.1, eps=1e-12)
    for _ in range(5):
        ours = ours + 0.1 * adam.step(4 * ours**3)
        reference.zero_grad()
        theirs.pow(4).sum().backward()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())
