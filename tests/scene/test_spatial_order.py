"""The order of points along a Z-order curve."""

import pytest
import torch

from gsplatloc.scene.spatial_order import spatial_order


def test_neighbours_in_the_order_are_near_each_other() -> None:
    points = torch.rand(4096, 3, generator=torch.Generator().manual_seed(0))
    order = spatial_order(points)
    assert sorted(order.tolist()) == list(range(4096))
    steps = points[order].diff(dim=0).norm(dim=1)
    assert steps.median() < 0.15 * points.diff(dim=0).norm(dim=1).median()


def test_far_outliers_do_not_make_the_cells_coarse() -> None:
    points = torch.rand(4096, 3, generator=torch.Generator().manual_seed(1))
    points[0] = 1e4
    steps = points[spatial_order(points)].diff(dim=0).norm(dim=1)
    assert steps.median() < 0.1


@pytest.mark.parametrize("points", [torch.zeros(0, 3), torch.ones(1, 3), torch.ones(5, 3)])
def test_points_without_extent_keep_their_order(points: torch.Tensor) -> None:
    assert spatial_order(points).tolist() == list(range(len(points)))
