"""Colours of Gaussians from their spherical harmonics."""

import torch
from torch import Tensor

from gsplatloc.scene.harmonics import basis


def colors(sh: Tensor, means: Tensor, camera_center: Tensor, degree: int) -> Tensor:
    """Colours [N, 3] of Gaussians `means` [N, 3] with coefficients `sh` [N, K, 3] seen from a centre [3].

    rgb = max(0, 0.5 + sum_k Y_k(direction) sh_k), k < (degree + 1)^2 <= K.
    """
    directions = torch.nn.functional.normalize(means - camera_center, dim=-1)
    used = (degree + 1) ** 2
    return (0.5 + (basis(directions, degree)[..., None] * sh[:, :used]).sum(1)).clamp_min(0)
