"""Mutual nearest neighbours between sets of descriptors, in blocks that limit memory."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import native

_CPU_BLOCK = 512  # rows whose products with 2,048 others are 4 MB
_GPU_BLOCK = 16_384  # rows whose products with 2,048 others are 128 MB


class Nearest(Protocol):
    """The nearest row of the other side, for each row of one side."""

    similarity: Tensor  # [N] float32 cosine
    index: Tensor  # [N] int64


@dataclass(frozen=True)
class Pairs:
    """Matches between descriptors of `a` and of `b`."""

    index_a: Tensor  # [K] int64, ascending
    index_b: Tensor  # [K] int64, no index twice
    similarity: Tensor  # [K] float32 cosine

    def __len__(self) -> int:
        return self.index_a.shape[0]

    def at_least(self, similarity: float) -> "Pairs":
        """The pairs of at least this cosine."""
        kept = (self.similarity >= similarity).nonzero()[:, 0]
        return Pairs(self.index_a[kept], self.index_b[kept], self.similarity[kept])


def mutual_nearest(a: Tensor, b: Tensor, min_similarity: float = -1.0, block: int | None = None) -> Pairs:
    """Pairs of L2-normalised descriptors a [N, D], b [M, D] that are each other's nearest.

    `block` rows of b are compared at a time on a GPU, and without the native package. Among equal cosines the
    first is taken.
    """
    if not len(a) or not len(b):
        none = torch.zeros(0, dtype=torch.int64, device=a.device)
        return Pairs(none, none, torch.zeros(0, device=a.device))
    if a.is_cuda:
        return _mutual_on_gpu(a, b, min_similarity, block or _GPU_BLOCK)
    package = native.matching()
    if package is None or a.dtype is not torch.float32 or max(len(a), len(b)) >= package.MAX_ROWS:
        return _mutual_in_blocks(a.detach(), b.detach(), min_similarity, block or _CPU_BLOCK)
    of_a, of_b = package.nearest(a.detach().contiguous(), b.detach().contiguous())
    return mutual_pairs(of_a, of_b, min_similarity)


def mutual_pairs(of_a: Nearest, of_b: Nearest, min_similarity: float) -> Pairs:
    """The pairs of rows that are each other's nearest, from the nearest of every row of both sides."""
    mutual = of_b.index[of_a.index] == torch.arange(len(of_a.index))
    kept = (mutual & (of_a.similarity >= min_similarity)).nonzero()[:, 0]
    return Pairs(kept, of_a.index[kept], of_a.similarity[kept])


def _mutual_in_blocks(a: Tensor, b: Tensor, min_similarity: float, block: int) -> Pairs:
    """Without the native package: every product is computed once, and serves the search in both directions.

    A block's products stay in the cache. numpy finds the index of a maximum several times faster than torch.
    """
    rows = np.arange(len(a))
    best, nearest = np.full(len(a), -np.inf, a.numpy().dtype), np.zeros(len(a), np.int64)
    highest = []  # cosine of each row of b with any row of a
    for first in range(0, len(b), block):
        products = a @ b[first : first + block].T
        highest.append(products.amax(0))
        index = products.numpy().argmax(1)
        found = products.numpy()[rows, index]
        better = found > best
        best[better], nearest[better] = found[better], index[better] + first
    mutual = best == torch.cat(highest).numpy()[nearest]
    kept = np.flatnonzero(mutual & (best >= min_similarity))
    _, first_of_equals = np.unique(nearest[kept], return_index=True)
    kept = kept[np.sort(first_of_equals)]
    return Pairs(torch.from_numpy(kept), torch.from_numpy(nearest[kept]), torch.from_numpy(best[kept]))


def _mutual_on_gpu(a: Tensor, b: Tensor, min_similarity: float, block: int) -> Pairs:
    """In few, large steps, without host synchronisation: redundant products cost less than waiting."""
    similarity, nearest = _nearest(a, b, block)
    preferred = _nearest(b[nearest], a, block)[1]
    mutual = preferred == torch.arange(len(a), device=a.device)
    kept = (mutual & (similarity >= min_similarity)).nonzero()[:, 0]
    return Pairs(kept, nearest[kept], similarity[kept])


def _nearest(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """For each row of a: the highest cosine [N] over the rows of b, and that row's index [N]."""
    found = [(a @ part.T).max(1) for part in b.split(block)]
    best, best_block = torch.stack([part.values for part in found]).max(0)
    index = torch.stack([part.indices for part in found]).gather(0, best_block[None])[0]
    return best, index + best_block * block
