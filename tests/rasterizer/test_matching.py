"""Native nearest neighbours against the full matrix of products."""

import pytest
import torch
from torch import Tensor

from gsplatloc_kernels.matching import MAX_ROWS, Nearest, nearest, nearest_within
from tests.rasterizer.support import available_isas

# Rows of a, rows of b, channels: one row, parts of blocks, several chunks, channels that fill no vector.
SIZES = [(1, 300, 64), (300, 1, 128), (37, 19, 5), (13, 257, 33), (130, 1025, 64)]


def unit(rows: int, channels: int, seed: int) -> Tensor:
    values = torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=1)


def assert_agrees(found: Nearest, products: Tensor) -> None:
    """`found` is the maximum of each row of a matrix; where nothing was compared it is -infinity."""
    best = products.max(1)
    torch.testing.assert_close(found.similarity, best.values, atol=1e-6, rtol=0)
    compared = best.values > -torch.inf
    assert torch.equal(found.index[compared], best.indices[compared])


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("size", SIZES)
def test_the_nearest_of_both_sides_are_the_maxima_of_the_matrix(
    size: tuple[int, int, int], isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSPLAT_ISA", isa)
    a, b = unit(size[0], size[2], 1), unit(size[1], size[2], 2)
    of_a, of_b = nearest(a, b)
    assert_agrees(of_a, a @ b.T)
    assert_agrees(of_b, b @ a.T)


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("radius", [0.1, 20.0, 1000.0])
def test_the_nearest_within_a_radius_are_the_maxima_of_the_pairs_within_it(
    radius: float, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSPLAT_ISA", isa)
    generator = torch.Generator().manual_seed(0)
    xy_a = torch.rand(400, 2, generator=generator) * torch.tensor([300.0, 40.0])
    xy_b = torch.rand(1100, 2, generator=generator) * torch.tensor([400.0, 80.0]) - 20
    a, b = unit(400, 20, 3), unit(1500, 20, 4)
    rows = torch.randperm(1500, generator=generator)[:1100]
    products = torch.where(torch.cdist(xy_a, xy_b) < radius, a @ b[rows].T, -torch.inf)
    of_a, of_b = nearest_within(xy_a, a, xy_b, b, rows, radius)
    assert_agrees(of_a, products)
    assert_agrees(of_b, products.T)


def test_of_equal_products_the_first_is_taken() -> None:
    a = torch.eye(20)
    of_a, of_b = nearest(a.repeat(2, 1), a.repeat(30, 1))
    assert of_a.index.tolist() == list(range(20)) * 2
    assert of_b.index.tolist() == list(range(20)) * 30


def test_the_number_of_threads_changes_nothing() -> None:
    a, b = unit(100, 64, 5).repeat(2, 1), unit(2000, 64, 6).repeat(2, 1)
    single, several = nearest(a, b, 1), nearest(a, b, 3)
    for one, other in zip(single, several):
        assert torch.equal(one.similarity, other.similarity) and torch.equal(one.index, other.index)


def test_a_point_that_is_nowhere_is_near_none() -> None:
    far = torch.tensor([[torch.nan, 1.0], [torch.inf, 1.0], [-1e30, 1.0]])
    _, of_far = nearest_within(torch.ones(5, 2), unit(5, 8, 7), far, unit(3, 8, 8), torch.arange(3), 10.0)
    assert (of_far.similarity == -torch.inf).all()


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        (torch.zeros(3, 4), torch.zeros(5, 6), ValueError),
        (torch.zeros(3, 4).double(), torch.zeros(5, 4), TypeError),
        (torch.zeros(4, 3).T, torch.zeros(5, 4), ValueError),
        (torch.zeros(0, 4), torch.zeros(5, 4), ValueError),
        (torch.zeros(3, 4), torch.zeros(5), ValueError),
        (torch.zeros(3, 4), [[1.0]], TypeError),
        (torch.zeros(1, 0).expand(MAX_ROWS, 0), torch.zeros(5, 0), ValueError),
    ],
)
def test_descriptors_that_do_not_fit_are_refused(a: Tensor, b: Tensor, error: type[Exception]) -> None:
    with pytest.raises(error):
        nearest(a, b)


@pytest.mark.parametrize("rows", [[0, 3], [-1, 0], [0]])
def test_rows_that_do_not_exist_are_refused(rows: list[int]) -> None:
    a = torch.zeros(3, 4)
    with pytest.raises(ValueError):
        nearest_within(torch.zeros(3, 2), a, torch.zeros(2, 2), a, torch.tensor(rows), 1.0)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    a, xy = torch.zeros(3, 4), torch.zeros(3, 2)
    with pytest.raises(ValueError):
        nearest_within(xy, a, xy, a, torch.arange(3), radius)


def test_of_equal_descriptors_within_the_radius_the_first_is_taken() -> None:
    xy = torch.tensor([[10.0, 0.0], [0.0, 0.0]])  # the second lies in an earlier cell
    same = torch.ones(2, 4)
    _, of_b = nearest_within(xy, same, torch.tensor([[5.0, 0.0]]), same, torch.tensor([0]), radius=12.0)
    assert of_b.index.tolist() == [0]


@pytest.mark.parametrize("threads", [1, 3])
def test_of_equal_rows_in_other_chunks_the_first_is_taken(threads: int) -> None:
    a, b = torch.ones(5, 4), torch.ones(2000, 4)  # chunks of 256 rows of b
    of_a, of_b = nearest(a, b, threads)
    assert of_a.index.eq(0).all() and of_b.index.eq(0).all()


def test_a_radius_that_is_hardly_one_finds_nothing() -> None:
    xy, one = torch.zeros(1, 2), torch.ones(1, 4)
    _, of_b = nearest_within(xy, one, xy, one, torch.tensor([0]), radius=1e-40)
    assert of_b.similarity.tolist() == [-torch.inf]  # its square is 0
    with pytest.raises(ValueError, match="radius above 0"):
        nearest_within(xy, one, xy, one, torch.tensor([0]), radius=0.0)
