"""Neighbours in an image against the full matrices of distances and products."""

import pytest
import torch

from gsplatloc.localization.matching.radius import Neighbours, neighbours


def points(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 600 - 50


def pairs(found: Neighbours) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices into a and b of all places."""
    return found.order[found.columns], found.rows(torch.arange(len(found)))


@pytest.mark.parametrize("radius", [3.0, 25.0, 1000.0])
def test_all_pairs_within_the_radius_are_found(radius: float) -> None:
    a, b = points(80, 0), points(120, 1)
    found = neighbours(a, b, radius)
    index_a, index_b = pairs(found)
    near = found.squared_distances(a, b) < radius**2
    expected = set(map(tuple, (torch.cdist(a, b) < radius).nonzero().tolist()))
    assert set(zip(index_a[near].tolist(), index_b[near].tolist())) == expected
    assert near.sum() == len(expected)


def test_pairs_can_be_limited_to_the_radius() -> None:
    a, b = points(80, 0), points(120, 1)
    found = neighbours(a, b, 25.0).within(a, b, 25.0)
    expected = (torch.cdist(b, a) < 25.0).nonzero().tolist()
    index_a, index_b = pairs(found)
    assert sorted(zip(index_b.tolist(), index_a.tolist())) == sorted(map(tuple, expected))


def test_none_is_much_farther_than_the_radius() -> None:
    a, b = points(300, 2), points(300, 3)
    found = neighbours(a, b, 20.0)
    assert found.squared_distances(a, b).sqrt().max() < 20.0 * 1.5 * 2**0.5


def test_products_are_those_of_the_matrix() -> None:
    a, b = points(70, 4), points(90, 5)
    generator = torch.Generator().manual_seed(6)
    vectors_a, vectors_b = (torch.randn(count, 64, generator=generator) for count in (70, 90))
    found = neighbours(a, b, 50.0)
    index_a, index_b = pairs(found)
    torch.testing.assert_close(
        found.products(vectors_a, vectors_b), (vectors_a @ vectors_b.T)[index_a, index_b]
    )


@pytest.mark.parametrize(("count_a", "count_b"), [(0, 5), (5, 0), (0, 0)])
def test_no_points_have_no_neighbours(count_a: int, count_b: int) -> None:
    found = neighbours(torch.zeros(count_a, 2), torch.zeros(count_b, 2), 5.0)
    assert len(found) == 0
    assert found.starts.tolist() == [0] * (count_b + 1)
    assert len(found.products(torch.zeros(count_a, 64), torch.zeros(count_b, 64))) == 0
