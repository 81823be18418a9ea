"""Mutual nearest neighbours between sets of descriptors, in blocks that limit memory."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CPU_BLOCK = 512  # rows whose products with 2,048 others are 4 MB
_GPU_BLOCK = 16_384  # rows whose products with 2,048 others are 128 MB
_TYPICAL_BEST = 0.9  # cosine of a descriptor and its match


@dataclass(frozen=True)
class Pairs:
    """Matches between descriptors of `a` and of `b`."""

    index_a: Tensor  # [K] int64, ascending
    index_b: Tensor  # [K] int64, no index twice
    similarity: Tensor  # [K] float32 cosine

    def __len__(self) -> int:
        return self.index_a.shape[0]


def mutual_nearest(a: Tensor, b: Tensor, min_similarity: float = -1.0, block: int | None = None) -> Pairs:
    """Pairs of L2-normalised descriptors a [N, D], b [M, D] that are each other's nearest.

    `block` rows of b are compared at a time. Among equal cosines the first is taken.
    """
    if not len(a) or not len(b):
        none = torch.zeros(0, dtype=torch.int64, device=a.device)
        return Pairs(none, none, torch.zeros(0, device=a.device))
    if not a.is_cuda and not (has_bfloat16() and a.dtype is torch.float32):
        return _mutual_in_one_pass(a.detach(), b.detach(), min_similarity, block or _CPU_BLOCK)
    similarity, nearest = _nearest(a, b, block)
    preferred = _preferred_rows(a, b, nearest, block)
    rows = torch.arange(len(a), device=a.device)
    kept = ((preferred == rows) & (similarity >= min_similarity)).nonzero()[:, 0]
    return Pairs(kept, nearest[kept], similarity[kept])


def _mutual_in_one_pass(a: Tensor, b: Tensor, min_similarity: float, block: int) -> Pairs:
    """On a CPU without bfloat16: every product is computed once, and serves the search in both directions.

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


def _preferred_rows(a: Tensor, b: Tensor, nearest: Tensor, block: int | None) -> Tensor:
    """For each row of a: the row of a [N] that is nearest to its `nearest` row of b.

    Only the rows of b that are nearest to a row of a are searched: N x N products, not N x M.
    """
    if a.is_cuda:  # a few redundant products cost less than waiting for their number
        return _nearest(b[nearest], a, block)[1]
    candidates, position = nearest.unique(return_inverse=True)
    return _nearest(b[candidates], a, block)[1][position]


def _nearest(a: Tensor, b: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
    """For each row of a: the highest cosine [N] over the rows of b, and that row's index [N]."""
    if a.is_cuda:
        return _nearest_in_large_blocks(a, b, block or _GPU_BLOCK)
    return _nearest_in_small_blocks(a, b, block or _CPU_BLOCK)


def _nearest_in_large_blocks(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """On a GPU: few, large steps, without host synchronisation."""
    found = [(a @ part.T).max(1) for part in b.split(block)]
    best, best_block = torch.stack([part.values for part in found]).max(0)
    index = torch.stack([part.indices for part in found]).gather(0, best_block[None])[0]
    return best, index + best_block * block


def _nearest_in_small_blocks(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """On a CPU with bfloat16: products stay in the cache; among equal cosines the first is taken.

    First only the maximum of each block (without its index, which is several times faster), then the index
    within the best block.
    """
    best_block = _block_maxima(a, b, block).max(1).indices
    order = best_block.argsort(stable=True)
    counts = best_block.bincount().tolist()  # of the rows whose best block each is
    values, offsets = [], []
    for rows, first in zip(a[order].split(counts), range(0, block * len(counts), block)):
        if len(rows):
            found = (rows @ b[first : first + block].T).max(1)
            values.append(found.values)
            offsets.append(found.indices + first)
    best, index = torch.empty(len(a), dtype=a.dtype), torch.empty(len(a), dtype=torch.int64)
    best[order], index[order] = torch.cat(values), torch.cat(offsets)
    return best, index


def _block_maxima(a: Tensor, b: Tensor, block: int) -> Tensor:
    """The highest cosine [N, blocks] of each row of a in each block of b, in bfloat16, up to a constant.

    Its eight bits do not distinguish 0.95 from 0.952; they do if
    the typical cosine of a match is subtracted, as a bias, before the product is rounded. On RedKitchen 1 %
    of the matches then differ, with a cosine that is lower by less than 0.001.
    """
    half_a, half_b = a.bfloat16(), b.bfloat16()
    offset = torch.full((block,), -_TYPICAL_BEST, dtype=torch.bfloat16)
    return torch.stack(
        [F.linear(half_a, part, offset[: len(part)]).amax(1) for part in half_b.split(block)], 1
    )


@cache
def has_bfloat16() -> bool:
    """True if this processor multiplies bfloat16 faster than single precision."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
