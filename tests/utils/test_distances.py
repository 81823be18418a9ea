"""Distances between points far from the origin."""

import torch

from gsplatloc.utils.distances import exact_distances


def test_distances_far_from_the_origin_are_exact() -> None:
    points = 500 + torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.cdist(points.double(), points.double()).float()
    torch.testing.assert_close(exact_distances(points, points), expected, atol=1e-4, rtol=0)
    assert (torch.cdist(points, points) - expected).abs().max() > 0.01  # by matrix products
