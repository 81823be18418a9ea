"""Rigid motions: SO(3) and SE(3) on torch tensors, differentiable everywhere, the identity included.

Conventions (docs/conventions.md): `cam_from_world` is a 4x4 matrix with x_cam = R x_world + t; quaternions
are wxyz; the tangent is xi = (rho, phi) with a left perturbation, T <- exp(xi) T. Formulas follow
Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics" (2018).
"""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Points = TypeVar("Points", Tensor, np.ndarray)

_SMALL_ANGLE_SQ = 1e-6  # radians^2; below it the truncated Taylor series are exact to float64


def hat(phi: Tensor) -> Tensor:
    """[..., 3] -> the skew matrices [..., 3, 3] with hat(a) b = a x b."""
    x, y, z = phi.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*phi.shape[:-1], 3, 3)


def _exp_coefficients(phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1-cos a)/a^2, (a-sin a)/a^3 of a = |phi|, each [..., 1, 1]."""
    angle_sq = (phi * phi).sum(-1)[..., None, None]
    small = angle_sq < _SMALL_ANGLE_SQ
    # `where` differentiates the other branch, too: it gets an angle for which its gradient is finite.
    safe_sq = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe_sq.sqrt()
    sine, cosine = angle.sin(), angle.cos()
    a = torch.where(small, 1 - angle_sq / 6 + angle_sq**2 / 120, sine / angle)
    b = torch.where(small, 0.5 - angle_sq / 24 + angle_sq**2 / 720, (1 - cosine) / safe_sq)
    c = torch.where(small, 1 / 6 - angle_sq / 120 + angle_sq**2 / 5040, (angle - sine) / (safe_sq * angle))
    return a, b, c


def so3_exp(phi: Tensor) -> Tensor:
    """Rotation vectors [..., 3] in radians -> rotation matrices [..., 3, 3]."""
    a, b, _ = _exp_coefficients(phi)
    skew = hat(phi)
    return torch.eye(3, dtype=phi.dtype, device=phi.device) + a * skew + b * skew @ skew


def se3_exp(xi: Tensor) -> Tensor:
    """Tangents (rho, phi) [..., 6] in metres and radians -> rigid motions [..., 4, 4]."""
    rho, phi = xi[..., :3], xi[..., 3:]
    a, b, c = _exp_coefficients(phi)
    skew = hat(phi)
    eye = torch.eye(3, dtype=xi.dtype, device=xi.device)
    square = skew @ skew
    rotation = eye + a * skew + b * square
    translation = ((eye + b * skew + c * square) @ rho[..., None])[..., 0]
    return from_rotation_translation(rotation, translation)


def se3_exp_numpy(xi: np.ndarray) -> np.ndarray:
    """`se3_exp` of one tangent [6] in numpy, -> [4, 4]: a tenth of the time of torch's calls.

    A generator G has G^4 = -a^2 G^2, a the angle: exp G = 1 + G + (1 - cos a)/a^2 G^2 + (a - sin a)/a^3 G^3.
    """
    generator = np.zeros((4, 4))
    generator[:3, 3] = xi[:3]
    generator[2, 1], generator[0, 2], generator[1, 0] = xi[3:]
    generator[1, 2], generator[2, 0], generator[0, 1] = -xi[3:]
    angle = float(np.linalg.norm(xi[3:]))
    if angle**2 < _SMALL_ANGLE_SQ:
        second, third = 1 / 2 - angle**2 / 24, 1 / 6 - angle**2 / 120
    else:
        second, third = (1 - math.cos(angle)) / angle**2, (angle - math.sin(angle)) / angle**3
    square = generator @ generator
    return np.eye(4) + generator + second * square + third * square @ generator


def so3_log(rotation: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] -> rotation vectors [..., 3], |phi| <= pi."""
    quaternion = quaternion_from_rotation(rotation)
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    sign = torch.where(w < 0, -1.0, 1.0).to(w.dtype)
    w, xyz = w * sign, xyz * sign
    sine_sq = (xyz * xyz).sum(-1, keepdim=True)
    small = sine_sq < _SMALL_ANGLE_SQ
    sine = torch.where(small, torch.ones_like(sine_sq), sine_sq).sqrt()
    scale = torch.where(small, (2 - 2 * sine_sq / (3 * w * w)) / w, 2 * torch.atan2(sine, w) / sine)
    return scale * xyz


def se3_log(transform: Tensor) -> Tensor:
    """Rigid motions [..., 4, 4] -> tangents (rho, phi) [..., 6]; the inverse of `se3_exp` for |phi| < pi."""
    phi = so3_log(transform[..., :3, :3])
    _, b, c = _exp_coefficients(phi)
    skew = hat(phi)
    left_jacobian = torch.eye(3, dtype=phi.dtype, device=phi.device) + b * skew + c * skew @ skew
    rho = torch.linalg.solve(left_jacobian, transform[..., :3, 3])
    return torch.cat([rho, phi], -1)


def se3_log_numpy(transform: np.ndarray) -> np.ndarray:
    """`se3_log` of one motion [4, 4] in numpy, -> [6], like `se3_exp_numpy`."""
    skew = 0.5 * (transform[:3, :3] - transform[:3, :3].T)  # sin(a) / a times hat(phi)
    sine = math.sqrt(skew[2, 1] ** 2 + skew[0, 2] ** 2 + skew[1, 0] ** 2)
    cosine = 0.5 * (transform[0, 0] + transform[1, 1] + transform[2, 2] - 1)
    if cosine < -0.9:  # the skew part vanishes at pi
        return se3_log(torch.from_numpy(transform)).numpy()
    angle = math.atan2(sine, cosine)
    small = sine * sine < _SMALL_ANGLE_SQ
    skew = (1 + sine * sine / 6 if small else angle / sine) * skew  # hat(phi)
    # The inverse of the left Jacobian is 1 - hat / 2 + third hat^2.
    third = 1 / 12 + angle**2 / 720 if small else (1 - 0.5 * angle * sine / (1 - cosine)) / angle**2
    across = skew @ transform[:3, 3]
    rho = transform[:3, 3] - 0.5 * across + third * (skew @ across)
    return np.array([*rho, skew[2, 1], skew[0, 2], skew[1, 0]])


def inverse(transform: Tensor) -> Tensor:
    """The inverse of rigid motions [..., 4, 4], by transposition."""
    rotation = transform[..., :3, :3].transpose(-1, -2)
    return from_rotation_translation(rotation, -(rotation @ transform[..., :3, 3:])[..., 0])


def from_rotation_translation(rotation: Tensor, translation: Tensor) -> Tensor:
    """[..., 3, 3] and [..., 3] -> [..., 4, 4]."""
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], -2)


def rigid_motion(source: Tensor, target: Tensor) -> Tensor:
    """The rigid motion [..., 4, 4] of points [..., N, 3] onto others with the least squared distances.

    Umeyama 1991, without a scale; never a mirror. Points on a line do not determine the rotation about it.
    """
    from_mean, to_mean = source.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    u, _, vt = torch.linalg.svd((target - to_mean).mT @ (source - from_mean))
    sign = torch.ones(u.shape[:-1], dtype=u.dtype, device=u.device)
    sign[..., 2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = (u * sign[..., None, :]) @ vt
    translation = (to_mean.mT - rotation @ from_mean.mT)[..., 0]
    return from_rotation_translation(rotation, translation)


def transform(motion: Points, points: Points) -> Points:
    """Points [N, 3] moved by a rigid motion [4, 4], both tensors or both arrays."""
    return points @ motion[:3, :3].T + motion[:3, 3]


def camera_center(cam_from_world: Tensor) -> Tensor:
    """Camera centres in the world, -R^T t: [..., 4, 4] -> [..., 3] metres."""
    return -(cam_from_world[..., :3, :3].transpose(-1, -2) @ cam_from_world[..., :3, 3:])[..., 0]


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Quaternions wxyz [..., 4] of any non-zero norm -> rotation matrices [..., 3, 3]."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] -> unit quaternions wxyz [..., 4], w >= 0.

    The best conditioned of four equivalent formulas is used (Shepperd, 1978).
    """
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack(
        [trace, 2 * m[..., 0, 0] - trace, 2 * m[..., 1, 1] - trace, 2 * m[..., 2, 2] - trace], -1
    )
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    one_plus = 1 + squares
    candidates = torch.stack(
        [
            torch.stack([one_plus[..., 0], wx, wy, wz], -1),
            torch.stack([wx, one_plus[..., 1], xy, xz], -1),
            torch.stack([wy, xy, one_plus[..., 2], yz], -1),
            torch.stack([wz, xz, yz, one_plus[..., 3]], -1),
        ],
        -2,
    )  # [..., 4, 4], each row a multiple of the same quaternion
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, best)[..., 0, :], dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
