"""Pairs of points that lie close together in an image, and what each pair costs next to nothing to compute.

Thousands of keypoints and landmarks have a hundred thousand pairs within a few pixels. Gathering both vectors
of each pair takes twenty times as long as multiplying them, most of it for memory; so pairs are kept as the
places of a sparse matrix, whose products torch computes without gathering.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 2  # of the grid that points are looked up in, per radius: fewer find more that are too far, slower


@dataclass(frozen=True)
class Neighbours:
    """For each of M points b some of N points a, as the places of a sparse matrix [M, N]."""

    order: Tensor  # [N] int64, in which the columns are the points a
    starts: Tensor  # [M + 1] int64, of each row among the places
    places: Tensor  # [K] int64 columns

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, index: Tensor) -> Tensor:
        """Which of b the places at `index` [L] belong to."""
        return torch.searchsorted(self.starts, index, right=True) - 1

    def squared_distances(self, a: Tensor, b: Tensor) -> Tensor:
        """[K], of points a [N, 2] and b [M, 2]."""
        count = self.starts.diff()
        x, y = a[self.order].T.contiguous()
        dx = x[self.places] - torch.repeat_interleave(b[:, 0], count)
        dy = y[self.places] - torch.repeat_interleave(b[:, 1], count)
        return dx * dx + dy * dy

    def products(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products [K] of vectors a [N, D] and b [M, D]."""
        a = a[self.order]
        if a.is_cuda:  # there memory is fast
            return (a[self.places] * torch.repeat_interleave(b, self.starts.diff(), 0)).sum(1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support")  # in beta, says torch
            pattern = torch.sparse_csr_tensor(
                self.starts, self.places, a.new_zeros(len(self)), (len(b), len(a)), check_invariants=False
            )
        return torch.sparse.sampled_addmm(pattern, b, a.T, beta=0.0).values()


def neighbours(a: Tensor, b: Tensor, radius: float) -> Neighbours:
    """All points of a [N, 2] closer than `radius` to each of b [M, 2], and some that are a little farther.

    Points of `a` are sorted into cells of half the radius. For each of `b` the five cells that can hold
    neighbours in a row of cells are one contiguous run, and there are five such rows. The table of cells
    spans all points: they must not lie more than some thousand cells apart.
    """
    if not len(a) or not len(b):
        none = torch.zeros(0, dtype=torch.int64, device=a.device)
        return Neighbours(torch.arange(len(a), device=a.device), none.new_zeros(len(b) + 1), none)
    side = radius / _CELLS
    origin = torch.minimum(a.amin(0), b.amin(0)) - (_CELLS + 1) * side
    cell_a, cell_b = ((a - origin) / side).long(), ((b - origin) / side).long()
    columns, rows = (torch.maximum(cell_a.amax(0), cell_b.amax(0)) + _CELLS + 2).tolist()
    key_a, key_b = (cell[:, 1] * columns + cell[:, 0] for cell in (cell_a, cell_b))
    before = F.pad(torch.bincount(key_a, minlength=columns * rows).cumsum(0), (1, 0))  # points, of each cell
    middle = key_b[:, None] + columns * torch.arange(-_CELLS, _CELLS + 1, device=b.device)
    first, last = before[middle - _CELLS].flatten(), before[middle + _CELLS + 1].flatten()
    end = (last - first).cumsum(0)  # of each run among the places
    places = torch.repeat_interleave(last - end, last - first)
    places += torch.arange(len(places), device=b.device)
    return Neighbours(key_a.argsort(), F.pad(end[2 * _CELLS :: 2 * _CELLS + 1], (1, 0)), places)
