"""Rigid motions by their properties, at uniform, tangent and near-identity samples."""

import math
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.utils import se3

SAMPLES = ("uniform", "tangent", "near_identity", "identity", "near_half_turn")
COUNT = 64


def _generator(*case: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32("/".join(case).encode()))


def _tangents(kind: str, test: str) -> Tensor:
    """[COUNT, 6] tangents whose rotation angle is below pi."""
    generator = _generator(kind, test)
    direction = torch.nn.functional.normalize(
        torch.randn(COUNT, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    unit = torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
    angle = {
        "uniform": unit * (math.pi - 0.01),
        "tangent": unit * 0.1,
        "near_identity": 10 ** (-12 * unit - 1),  # crosses the switch to the Taylor series
        "identity": 0 * unit,
        "near_half_turn": math.pi - 10 ** (-4 * unit - 1),
    }[kind]
    rho = torch.randn(COUNT, 3, generator=generator, dtype=torch.float64)
    return torch.cat([rho * (0 if kind == "identity" else 1), direction * angle], -1)


def _assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def _eye(count: int = COUNT) -> Tensor:
    return torch.eye(4, dtype=torch.float64).expand(count, 4, 4)


@pytest.mark.parametrize("kind", SAMPLES)
def test_exp_gives_a_rotation(kind: str) -> None:
    rotation = se3.se3_exp(_tangents(kind, "rotation"))[:, :3, :3]
    _assert_close(
        rotation @ rotation.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand_as(rotation)
    )
    _assert_close(torch.linalg.det(rotation), torch.ones(COUNT, dtype=torch.float64))


@pytest.mark.parametrize("kind", SAMPLES)
def test_exp_is_the_matrix_exponential(kind: str) -> None:
    xi = _tangents(kind, "expm")
    generator = torch.zeros(COUNT, 4, 4, dtype=torch.float64)
    generator[:, :3, :3] = se3.hat(xi[:, 3:])
    generator[:, :3, 3] = xi[:, :3]
    _assert_close(se3.se3_exp(xi), torch.linalg.matrix_exp(generator), 1e-11)


@pytest.mark.parametrize("kind", SAMPLES)
def test_exp_in_numpy_is_the_same(kind: str) -> None:
    xi = _tangents(kind, "numpy")
    found = torch.stack([torch.from_numpy(se3.se3_exp_numpy(one)) for one in xi.numpy()])
    _assert_close(found, se3.se3_exp(xi), 1e-11)


@pytest.mark.parametrize("kind", SAMPLES)
def test_log_inverts_exp(kind: str) -> None:
    xi = _tangents(kind, "log")
    # Close to half a turn the axis is read from elements whose derivative vanishes: fewer digits are left.
    _assert_close(se3.se3_log(se3.se3_exp(xi)), xi, 1e-9 if kind == "near_half_turn" else 1e-11)


@pytest.mark.parametrize("kind", SAMPLES)
def test_exp_inverts_log(kind: str) -> None:
    transform = se3.se3_exp(_tangents(kind, "exp"))
    _assert_close(se3.se3_exp(se3.se3_log(transform)), transform, 1e-11)


@pytest.mark.parametrize("kind", SAMPLES)
def test_inverse_is_a_two_sided_inverse(kind: str) -> None:
    transform = se3.se3_exp(_tangents(kind, "inverse"))
    _assert_close(transform @ se3.inverse(transform), _eye())
    _assert_close(se3.inverse(transform) @ transform, _eye())


@pytest.mark.parametrize("kind", SAMPLES)
def test_inverse_is_exp_of_the_negated_tangent(kind: str) -> None:
    xi = _tangents(kind, "negated")
    _assert_close(se3.inverse(se3.se3_exp(xi)), se3.se3_exp(-xi))


def test_composition_is_associative_and_closed() -> None:
    a, b, c = (se3.se3_exp(_tangents("uniform", name)) for name in "abc")
    _assert_close((a @ b) @ c, a @ (b @ c), 1e-11)
    _assert_close(se3.se3_exp(se3.se3_log(a @ b)), a @ b, 1e-11)


def test_left_perturbation_moves_the_camera_frame() -> None:
    """d (exp(xi) T x) / d xi at 0 is [I | -hat(T x)]: what every pose Jacobian of the project rests on."""
    transform = se3.se3_exp(_tangents("uniform", "left")[0])
    point = torch.tensor([0.3, -0.4, 2.0], dtype=torch.float64)

    def moved(xi: Tensor) -> Tensor:
        new = se3.se3_exp(xi) @ transform
        return new[:3, :3] @ point + new[:3, 3]

    jacobian = torch.autograd.functional.jacobian(moved, torch.zeros(6, dtype=torch.float64))
    expected = torch.cat([torch.eye(3, dtype=torch.float64), -se3.hat(moved(torch.zeros(6).double()))], 1)
    _assert_close(jacobian, expected)


def test_a_small_quarter_turn_about_z_turns_x_into_y() -> None:
    rotation = se3.so3_exp(torch.tensor([0, 0, math.pi / 2], dtype=torch.float64))
    _assert_close(rotation @ torch.tensor([1.0, 0, 0]).double(), torch.tensor([0.0, 1, 0]).double())


@pytest.mark.parametrize("kind", SAMPLES)
def test_quaternions_and_matrices_agree(kind: str) -> None:
    rotation = se3.so3_exp(_tangents(kind, "quaternion")[:, 3:])
    quaternion = se3.quaternion_from_rotation(rotation)
    _assert_close(torch.linalg.norm(quaternion, dim=-1), torch.ones(COUNT, dtype=torch.float64))
    assert bool((quaternion[:, 0] >= 0).all())
    _assert_close(se3.rotation_from_quaternion(quaternion), rotation)


def test_a_quaternion_of_any_norm_gives_the_same_rotation() -> None:
    quaternion = torch.randn(COUNT, 4, generator=_generator("norm"), dtype=torch.float64)
    _assert_close(se3.rotation_from_quaternion(-3.7 * quaternion), se3.rotation_from_quaternion(quaternion))


def test_camera_center_maps_to_the_origin() -> None:
    transform = se3.se3_exp(_tangents("uniform", "center"))
    center = se3.camera_center(transform)
    moved = (transform[:, :3, :3] @ center[..., None])[..., 0] + transform[:, :3, 3]
    _assert_close(moved, torch.zeros(COUNT, 3, dtype=torch.float64), 1e-11)


@pytest.mark.parametrize("kind", ("tangent", "near_identity", "identity"))
def test_gradient_of_exp_matches_finite_differences(kind: str) -> None:
    for xi in _tangents(kind, "gradient")[:4]:
        assert torch.autograd.gradcheck(se3.se3_exp, xi.clone().requires_grad_(), atol=1e-7)


@pytest.mark.parametrize("kind", ("uniform", "tangent", "near_identity", "identity"))
def test_gradient_of_log_after_exp_is_the_identity(kind: str) -> None:
    for xi in _tangents(kind, "round_trip")[:4]:
        jacobian = torch.autograd.functional.jacobian(lambda v: se3.se3_log(se3.se3_exp(v)), xi)
        _assert_close(jacobian, torch.eye(6, dtype=torch.float64), 1e-7)


@pytest.mark.parametrize("function", (se3.se3_exp, lambda xi: se3.se3_log(se3.se3_exp(xi))))
def test_second_gradients_at_the_identity_are_finite(function) -> None:  # type: ignore[no-untyped-def]
    xi = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(xi).sum(), xi, create_graph=True)
    (second,) = torch.autograd.grad((gradient * gradient).sum(), xi)
    assert bool(gradient.isfinite().all() and second.isfinite().all())


def test_batched_and_single_calls_agree() -> None:
    xi = _tangents("uniform", "batch").reshape(8, 8, 6)
    _assert_close(se3.se3_exp(xi)[3, 5], se3.se3_exp(xi[3, 5]), 0)


def test_float32_round_trip_keeps_float32() -> None:
    xi = _tangents("tangent", "float32").float()
    back = se3.se3_log(se3.se3_exp(xi))
    assert back.dtype == torch.float32
    _assert_close(back, xi, 2e-5)


@pytest.mark.parametrize("size", (0.0, 1e-8, 1e-4, 0.01, 0.5, 1.5, 2.9))
def test_the_logarithm_in_numpy_is_that_in_torch(size: float) -> None:
    phi = F.normalize(torch.randn(3, generator=torch.Generator().manual_seed(6), dtype=torch.float64), dim=0)
    motion = se3.se3_exp(torch.cat([torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), size * phi]))
    found = torch.from_numpy(se3.se3_log_numpy(motion.numpy()))
    torch.testing.assert_close(found, se3.se3_log(motion), rtol=0, atol=1e-12)


def test_rigid_motions_of_points_are_found_and_are_no_mirrors() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5, 7, 3, generator=generator, dtype=torch.float64)
    motions = se3.se3_exp(torch.randn(5, 6, generator=generator, dtype=torch.float64))
    moved = points @ motions[:, :3, :3].mT + motions[:, None, :3, 3]
    torch.testing.assert_close(se3.rigid_motion(points, moved), motions)
    flat = points[0] * torch.tensor([1.0, 1, 0], dtype=torch.float64)
    mirrored = flat * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    assert torch.linalg.det(se3.rigid_motion(flat, mirrored)[:3, :3]).item() > 0.99


def test_points_are_moved_alike_as_tensors_and_as_arrays() -> None:
    motion = se3.se3_exp(torch.tensor([0.3, -1.0, 2.0, 0.4, 0.1, -0.7], dtype=torch.float64))
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = se3.transform(motion, points)
    homogeneous = torch.cat([points, torch.ones(5, 1)], 1) @ motion.T
    assert torch.allclose(moved, homogeneous[:, :3], atol=1e-12)
    assert np.allclose(se3.transform(motion.numpy(), points.numpy()), moved.numpy(), atol=1e-12)
    assert torch.allclose(se3.transform(se3.inverse(motion), moved), points, atol=1e-12)
