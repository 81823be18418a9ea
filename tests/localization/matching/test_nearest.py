"""Mutual nearest neighbours against the definition, written out."""

import pytest
import torch

from gsplatloc.gaussian_renderer import native
from gsplatloc.localization.matching.nearest import mutual_nearest


def descriptors(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 64, generator=generator), dim=1)


@pytest.mark.parametrize("block", [None, 1, 7, 4096])
def test_agrees_with_the_full_similarity_matrix(block: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Natively, and without the native package in blocks."""
    if block is not None:
        monkeypatch.setattr(native, "matching", lambda: None)
    a, b = descriptors(60, 1), descriptors(90, 2)
    similarity = a @ b.T
    expected = {
        (i, j)
        for i in range(60)
        for j in range(90)
        if similarity[i, j] == similarity[i].max() and similarity[i, j] == similarity[:, j].max()
    }
    pairs = mutual_nearest(a, b, block=block)
    assert set(zip(pairs.index_a.tolist(), pairs.index_b.tolist())) == expected
    torch.testing.assert_close(pairs.similarity, similarity[pairs.index_a, pairs.index_b])


def test_every_descriptor_finds_itself_in_a_permuted_set() -> None:
    a = descriptors(50, 3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    pairs = mutual_nearest(a, a[order])
    assert torch.equal(order[pairs.index_b], pairs.index_a)
    assert len(pairs) == 50


def test_dissimilar_pairs_are_dropped() -> None:
    a = descriptors(50, 4)
    noisy = torch.nn.functional.normalize(a + 0.1 * descriptors(50, 5), dim=1)
    every = mutual_nearest(a, noisy)
    threshold = every.similarity.median().item()
    kept = mutual_nearest(a, noisy, min_similarity=threshold)
    assert 0 < len(kept) < len(every)
    assert (kept.similarity >= threshold).all()
    selected = every.at_least(threshold)
    assert torch.equal(selected.index_a, kept.index_a) and torch.equal(selected.index_b, kept.index_b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_equal_descriptors_the_first_are_paired(dtype: torch.dtype) -> None:
    a = torch.eye(20, dtype=dtype)  # whose cosines are exact
    pairs = mutual_nearest(a.repeat(2, 1), a.repeat(3, 1), block=16)
    assert pairs.index_a.tolist() == pairs.index_b.tolist() == list(range(20))


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (0, 0)])
def test_empty_sets_have_no_pairs(rows: int, columns: int) -> None:
    assert len(mutual_nearest(torch.zeros(rows, 64), torch.zeros(columns, 64))) == 0
