"""Real spherical harmonics up to degree 3, in the order and with the signs that 3DGS files use."""

import torch
from torch import Tensor

MAX_DEGREE = 3
Y_00 = 0.28209479177387814  # the function of degree 0, 1 / (2 sqrt(pi)): rgb = 0.5 + Y_00 * sh_0
_DIRECTIONS = 64  # more than the 16 functions, well spread over the sphere


def basis(directions: Tensor, degree: int) -> Tensor:
    """Unit directions [N, 3] -> basis functions [N, (degree + 1)^2], with the Condon-Shortley phase."""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, Y_00)]
    if degree > 0:
        terms += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree > 2:
        terms += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(terms, -1)


def rotated(sh: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients [N, K, 3] of the same Gaussians after their world was turned by `rotation` [3, 3].

    Functions of each degree are mixed among themselves: Y(R^T d) sh for all d is Y(d) M sh, solved by least
    squares over many directions d.
    """
    degree = round(sh.shape[1] ** 0.5) - 1
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_DIRECTIONS, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=1)
    turned = basis(directions @ rotation.double().cpu(), degree)
    mixing = torch.linalg.lstsq(basis(directions, degree), turned).solution
    return mixing.round(decimals=12).to(sh) @ sh  # rounded: of a half turn only signs change
