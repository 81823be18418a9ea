"""Mutual nearest neighbours between descriptor sets, in blocks that bound memory."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Which descriptor of `a` goes with which of `b`."""

    index_a: Tensor  # [K] int64, ascending
    index_b: Tensor  # [K] int64, no index twice
    similarity: Tensor  # [K] float32 cosine

    def __len__(self) -> int:
        return self.index_a.shape[0]


def mutual_nearest(a: Tensor, b: Tensor, min_similarity: float = -1.0, block: int = 4096) -> Pairs:
    """Pairs of L2-normalised descriptors a [N, D], b [M, D] that are each other's nearest.

    `block` columns of b are compared at a time. Whether a row's nearest column also prefers that row is
    only asked of the at most N columns that are some row's nearest: an N x N product, not N x M.
    """
    if not len(a) or not len(b):
        none = torch.zeros(0, dtype=torch.int64, device=a.device)
        return Pairs(none, none, torch.zeros(0, device=a.device))
    similarity, nearest = _nearest(a, b, block)
    candidates, position = nearest.unique(return_inverse=True)
    _, preferred = _nearest(b[candidates], a, block)
    rows = torch.arange(len(a), device=a.device)
    keep = (preferred[position] == rows) & (similarity >= min_similarity)
    return Pairs(rows[keep], nearest[keep], similarity[keep])


def _nearest(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """For each row of a: the highest cosine [N] over the rows of b, and which [N] (the first of equals)."""
    best = torch.full((len(a),), -torch.inf, dtype=a.dtype, device=a.device)
    index = torch.zeros(len(a), dtype=torch.int64, device=a.device)
    for start in range(0, len(b), block):
        value, column = (a @ b[start : start + block].T).max(1)
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, column + start, index)
    return best, index
