"""Spherical harmonics: properties that fix every constant."""

import pytest
import torch

from gsplatloc.gaussian_renderer import sh
from gsplatloc.scene.harmonics import basis, rotated


def sphere(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(directions, dim=-1)


def quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and weights that integrate polynomials of degree 7 over the sphere exactly."""
    nodes = torch.tensor([-0.8611363115940526, -0.3399810435848563, 0.3399810435848563, 0.8611363115940526])
    weights = torch.tensor([0.3478548451374538, 0.6521451548625461, 0.6521451548625461, 0.3478548451374538])
    angles = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    z, angle = torch.meshgrid(nodes.double(), angles, indexing="ij")
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1).reshape(-1, 3)
    return directions, (weights.double()[:, None] * torch.pi / 4).expand(4, 8).reshape(-1)


def test_the_basis_is_orthonormal() -> None:
    directions, weights = quadrature()
    functions = basis(directions, 3)
    gram = functions.T @ (weights[:, None] * functions)
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("degree", range(4))
def test_each_degree_is_a_prefix_of_the_next(degree: int) -> None:
    directions = sphere(20)
    full = basis(directions, 3)
    assert torch.equal(basis(directions, degree), full[:, : (degree + 1) ** 2])


def test_degree_zero_is_the_same_from_everywhere() -> None:
    coefficients = torch.rand(10, 16, 3, dtype=torch.float64)
    means = sphere(10)
    near = sh.colors(coefficients, means, torch.zeros(3, dtype=torch.float64), 0)
    far = sh.colors(coefficients, means, torch.full((3,), 9.0, dtype=torch.float64), 0)
    assert torch.equal(near, far)


def test_colors_are_never_negative() -> None:
    coefficients = torch.full((5, 1, 3), -10.0)
    assert sh.colors(coefficients, torch.rand(5, 3), torch.zeros(3), 0).max() == 0


@pytest.mark.parametrize("degree", range(4))
def test_rotated_coefficients_give_the_colour_of_the_direction_before_the_rotation(degree: int) -> None:
    coefficients = torch.rand(20, (degree + 1) ** 2, 3, dtype=torch.float64)
    rotation = torch.linalg.qr(sphere(3)).Q
    rotation = rotation * rotation.det()
    directions = sphere(20)
    before = (basis(directions, degree)[..., None] * coefficients).sum(1)
    after = (basis(directions @ rotation.T, degree)[..., None] * rotated(coefficients, rotation)).sum(1)
    assert torch.allclose(before, after, atol=1e-10)
