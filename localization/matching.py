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


def mutual_nearest(a: Tensor, b: Tensor, min_similarity: float = -1.0, block: int = 512) -> Pairs:
    """Pairs of L2-normalised descriptors a [N, D], b [M, D] that are each other's nearest.

    `block` rows of b are compared at a time: products stay in the processor's cache. Whether the nearest
    of b prefers its row of a, too, is only asked of the at most N that are nearest to one: N x N, not N x M.
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
    """For each row of a: the highest cosine [N] over the rows of b, and which [N] (the first of equals).

    First only the highest of each block (a maximum without its place is several times faster to find), then
    the place within the best block.
    """
    highest = torch.stack([(a @ part.T).amax(1) for part in b.split(block)], 1)  # [N, blocks]
    best, best_block = highest.max(1)
    index = torch.empty(len(a), dtype=torch.int64, device=a.device)
    for number in best_block.unique().tolist():
        rows = (best_block == number).nonzero()[:, 0]
        first = number * block
        index[rows] = (a[rows] @ b[first : first + block].T).argmax(1) + first
    return best, index
