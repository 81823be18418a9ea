"""Conversions that several formats share: activated values, bytes, axes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00, rotated

MAX_COEFFICIENTS = 16  # of degree 3: no format but .ply holds more
BYTE_MARGIN = 1e-3  # from 0 and 1 of an opacity read from a byte, so that its logit is finite


def splat_of_arrays(
    means: np.ndarray,
    scales: np.ndarray,
    quaternions: np.ndarray,
    opacities: np.ndarray,
    base: np.ndarray,
    rest: np.ndarray | None = None,
) -> Gaussians:
    """Gaussians of stored parameters.

    means [N, 3], log scales [N, 3], quaternions wxyz [N, 4], opacity logits [N], coefficients of degree 0
    [N, 3] and of higher degrees [N, K - 1, 3].
    """
    sh = base[:, None] if rest is None else np.concatenate([base[:, None], rest], 1)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    features = torch.zeros(len(means), 0)
    return Gaussians(
        tensor(means), tensor(quaternions), tensor(scales), tensor(opacities), tensor(sh), features
    )


def sh_of_rgb(rgb: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] -> coefficients of degree 0."""
    return (rgb - 0.5) / Y_00


def logits(opacities: np.ndarray, margin: float = BYTE_MARGIN) -> np.ndarray:
    """Opacities in [0, 1] -> finite logits; `margin` is the distance kept from 0 and 1."""
    inside = np.clip(opacities.astype(np.float64), margin, 1 - margin)
    return np.log(inside / (1 - inside))


def log_scales(scales: np.ndarray) -> np.ndarray:
    """Standard deviations -> logarithms; of something without size the smallest float's."""
    return np.log(np.maximum(scales.astype(np.float64), np.finfo(np.float32).tiny))


def rgb_bytes(base: torch.Tensor) -> np.ndarray:
    """Coefficients of degree 0, [N, 3] -> colours without view dependence as uint8, clamped to [0, 1]."""
    rgb = base.detach().cpu().double().numpy() * Y_00 + 0.5
    return np.clip(np.round(255 * rgb), 0, 255).astype(np.uint8)


def rgba_bytes(gaussians: Gaussians) -> np.ndarray:
    """Colour without view dependence, and opacity, [N, 4] uint8."""
    alpha = gaussians.opacities.detach().cpu().double().numpy()
    return np.column_stack([rgb_bytes(gaussians.sh[:, 0]), np.round(255 * alpha).astype(np.uint8)])


def unit_quaternions(gaussians: Gaussians) -> np.ndarray:
    """Quaternions wxyz [N, 4] of length 1 with w >= 0."""
    found = torch.nn.functional.normalize(gaussians.quaternions.detach().cpu().double(), dim=1).numpy()
    return np.where(found[:, :1] < 0, -found, found)


def smaller_components(quaternions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of unit quaternions wxyz [N, 4]: the largest component [N], 0 to 3, and the others in order [N, 3].

    The sign is that of a positive largest component; the others, within 1 / sqrt(2) of zero, are scaled to
    [0, 1].
    """
    largest = np.abs(quaternions).argmax(1)
    rows = np.arange(len(quaternions))
    signed = quaternions * np.where(quaternions[rows, largest] < 0, -1, 1)[:, None]
    others = np.array([[k for k in range(4) if k != left_out] for left_out in range(4)])[largest]
    return largest, np.clip(np.take_along_axis(signed, others, 1) / math.sqrt(2) + 0.5, 0, 1)


def capped(gaussians: Gaussians, coefficients: int = MAX_COEFFICIENTS) -> Gaussians:
    """On the CPU, without descriptors, and with at most so many coefficients of spherical harmonics."""
    gaussians = gaussians.to("cpu").detach()
    none = torch.zeros(len(gaussians), 0)
    return replace(gaussians, sh=gaussians.sh[:, :coefficients], features=none, feature_decoder=None)


def with_axes(gaussians: Gaussians, signs: tuple[int, int, int]) -> Gaussians:
    """Gaussians with some axes of the world reversed, two of them: a rotation by 180 degrees."""
    x, y, z = signs
    flip = torch.tensor(signs).to(gaussians.means)
    turned = rotated(gaussians.sh, torch.diag(flip))
    quaternions = gaussians.quaternions * torch.tensor([1, y * z, x * z, x * y]).to(gaussians.quaternions)
    return replace(gaussians, means=gaussians.means * flip, quaternions=quaternions, sh=turned)


def joined(parts: Sequence[Gaussians]) -> Gaussians:
    """All parts as one splat, of the highest degree among them."""
    most = max(part.sh.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part.sh, (0, 0, 0, most - part.sh.shape[1])) for part in parts]
    columns = [replace(part, sh=sh).per_gaussian() for part, sh in zip(parts, padded)]
    tensors: dict[str, Any] = {name: torch.cat([column[name] for column in columns]) for name in columns[0]}
    return Gaussians(**tensors, antialiased=parts[0].antialiased)
