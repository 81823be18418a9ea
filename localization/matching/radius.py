"""Pairs of points that are close together in an image, with the distance and inner product of each pair.

Thousands of keypoints and landmarks have a hundred thousand pairs within a few pixels. Gathering both vectors
of each pair takes twenty times as long as multiplying them, most of it for memory. Therefore pairs are stored
as the entries of a sparse matrix, whose products torch computes without gathering.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 2  # grid cells per radius: with one, more pairs are found that are too far apart


@dataclass(frozen=True)
class Neighbours:
    """For each of M points b some of N points a, as the entries of a sparse matrix [M, N]."""

    order: Tensor  # [N] int64, the point of a that each column stands for
    starts: Tensor  # [M + 1] int64, first entry of each row
    columns: Tensor  # [K] int64, of each entry

    def __len__(self) -> int:
        return len(self.columns)

    def rows(self, index: Tensor) -> Tensor:
        """Rows, points of b, of the entries at `index` [L]."""
        return torch.searchsorted(self.starts, index, right=True) - 1

    def within(self, a: Tensor, b: Tensor, radius: float) -> "Neighbours":
        """The pairs closer than `radius`, for points a [N, 2] and b [M, 2]."""
        near = self.squared_distances(a, b) < radius**2
        found = F.pad(near.cumsum(0), (1, 0))
        kept = near.nonzero()[:, 0]  # `index_select` takes a quarter of the time of other kinds of indexing
        return Neighbours(self.order, found.index_select(0, self.starts), self.columns.index_select(0, kept))

    def squared_distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distance [K] of each pair, for points a [N, 2] and b [M, 2]."""
        count = self.starts.diff()
        x, y = a[self.order].T.contiguous()
        dx = x.index_select(0, self.columns) - _repeated(b[:, 0], count)
        dy = y.index_select(0, self.columns) - _repeated(b[:, 1], count)
        return dx * dx + dy * dy

    def products(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product [K] of each pair, for vectors a [N, D] and b [M, D]."""
        a = a[self.order]
        if a.is_cuda:  # gathering is fast there
            return (a[self.columns] * torch.repeat_interleave(b, self.starts.diff(), 0)).sum(1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support")  # "is in beta state"
            pattern = torch.sparse_csr_tensor(
                self.starts, self.columns, a.new_zeros(len(self)), (len(b), len(a)), check_invariants=False
            )
        return torch.sparse.sampled_addmm(pattern, b, a.T, beta=0.0).values()


def neighbours(a: Tensor, b: Tensor, radius: float) -> Neighbours:
    """All points of a [N, 2] closer than `radius` to each of b [M, 2], and some that are a little farther.

    Points of `a` are sorted into cells of half the radius. For each point of `b`, neighbours are in five rows
    of five cells, and each of these rows is one contiguous run. The table of cells spans all points: they
    must not be more than a few thousand cells apart.
    """
    if not len(a) or not len(b):
        none = torch.zeros(0, dtype=torch.int64, device=a.device)
        return Neighbours(torch.arange(len(a), device=a.device), none.new_zeros(len(b) + 1), none)
    side = radius / _CELLS
    origin = torch.minimum(a.amin(0), b.amin(0)) - (_CELLS + 1) * side
    cell_a, cell_b = ((a - origin) / side).long(), ((b - origin) / side).long()
    columns, rows = (torch.maximum(cell_a.amax(0), cell_b.amax(0)) + _CELLS + 2).tolist()
    key_a, key_b = (cell[:, 1] * columns + cell[:, 0] for cell in (cell_a, cell_b))
    before = F.pad(torch.bincount(key_a, minlength=columns * rows).cumsum(0), (1, 0))  # [cells + 1]
    middle = key_b[:, None] + columns * torch.arange(-_CELLS, _CELLS + 1, device=b.device)
    first, last = before[middle - _CELLS].flatten(), before[middle + _CELLS + 1].flatten()
    end = (last - first).cumsum(0)  # of each run among the entries
    entries = _repeated(last - end, last - first)
    entries += torch.arange(len(entries), device=b.device)
    return Neighbours(key_a.argsort(), F.pad(end[2 * _CELLS :: 2 * _CELLS + 1], (1, 0)), entries)


def _repeated(values: Tensor, counts: Tensor) -> Tensor:
    """Each of `values` [M] as often as `counts` [M] says; numpy takes a third of torch's time on a CPU."""
    if values.is_cuda:
        return torch.repeat_interleave(values, counts)
    return torch.from_numpy(np.repeat(values.numpy(), counts.numpy()))
