"""Overlapping blocks of views, cut where the fewest pairs of neighbouring views are separated.

Two views are neighbours if they are near each other and look alike: of the `_NEAR` views nearest in position,
the `_ALIKE` with the most similar images. Distance alone would join views on both sides of a wall, and
similarity alone those of rooms that look alike.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsplatloc.utils.distances import exact_distances

_NEAR = 40  # views nearest in position, out of which ...
_ALIKE = 8  # ... as many are neighbours
_SLACK = 0.25  # of a block's size by which a cut may move to where it separates fewer neighbours
_OVERLAP = 0.35  # of the size of its core that a block may have in views of other cores
_ROWS = 512  # views compared with all others at once, which bounds the memory


@dataclass(frozen=True)
class Block:
    """Indices of views, ascending."""

    core: list[int]  # in no other core
    overlap: list[int]  # of other cores: those with the most neighbours in this one

    @property
    def views(self) -> list[int]:
        return sorted([*self.core, *self.overlap])


def neighbours(centers: Tensor, descriptors: Tensor) -> Tensor:
    """Indices [V, k] of the neighbours of V views at `centers` [V, 3] with unit vectors [V, P]."""
    near = min(_NEAR, len(centers) - 1)
    found = []
    for begin in range(0, len(centers), _ROWS):
        rows = slice(begin, begin + _ROWS)
        distance = exact_distances(centers[rows], centers)
        own = torch.arange(len(distance)), torch.arange(begin, begin + len(distance))
        distance[own] = torch.inf
        candidates = distance.topk(near, largest=False).indices
        similarity = (descriptors[candidates] @ descriptors[rows, :, None])[..., 0]
        best = similarity.topk(min(_ALIKE, near)).indices
        found.append(candidates.gather(1, best))
    return torch.cat(found)


def partition(centers: np.ndarray, near: np.ndarray, block_views: int) -> list[Block]:
    """Blocks with cores of about `block_views` of the views at `centers` [V, 3], whose neighbours are `near`.

    The views are in the order in which they were taken, if there is one.
    """
    views = np.arange(len(centers))
    cores = _split(views, centers, near, max(1, round(len(centers) / block_views)))
    block_of = np.empty(len(centers), int)
    for number, core in enumerate(cores):
        block_of[core] = number
    blocks = []
    for number, core in enumerate(cores):
        votes = Counter(int(view) for view in near[core].ravel() if block_of[view] != number)
        most = [view for view, _ in sorted(votes.items(), key=lambda item: (-item[1], item[0]))]
        overlap = most[: round(_OVERLAP * len(core))]
        blocks.append(Block(sorted(core.tolist()), sorted(overlap)))
    return blocks


def _split(views: np.ndarray, centers: np.ndarray, near: np.ndarray, blocks: int) -> list[np.ndarray]:
    if blocks == 1:
        return [views]
    left = blocks // 2
    middle, slack = len(views) * left / blocks, _SLACK * len(views) / blocks
    first = max(1, int(np.ceil(middle - slack)))
    last = max(first, min(len(views) - 1, int(middle + slack)))
    best: tuple[float, float, np.ndarray, int] | None = None
    for order in _orders(views, centers):
        separated = _separated(order, near)[first : last + 1]
        distance = np.abs(np.arange(first, last + 1) - middle)
        at = int(np.lexsort((distance, separated))[0])
        found = (float(separated[at]), float(distance[at]), order, first + at)
        if best is None or found[:2] < best[:2]:
            best = found
    assert best is not None
    _, _, order, cut = best
    first_half, second_half = np.sort(order[:cut]), np.sort(order[cut:])
    return _split(first_half, centers, near, left) + _split(second_half, centers, near, blocks - left)


def _orders(views: np.ndarray, centers: np.ndarray) -> list[np.ndarray]:
    """The views along the principal axes of their positions, and as they were taken."""
    offsets = centers[views] - centers[views].mean(0)
    axes = np.linalg.svd(offsets, full_matrices=False)[2]
    return [*(views[np.argsort(offsets @ axis, kind="stable")] for axis in axes), views]


def _separated(order: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Entry k [len + 1]: how many pairs of neighbours a cut before the k-th view of `order` separates."""
    rank = np.full(len(near), -1)
    rank[order] = np.arange(len(order))
    a = np.repeat(rank[order], near.shape[1])
    b = rank[near[order].ravel()]
    a, b = a[b >= 0], b[b >= 0]
    change = np.zeros(len(order) + 2, int)
    np.add.at(change, np.minimum(a, b) + 1, 1)
    np.add.at(change, np.maximum(a, b) + 1, -1)
    return np.cumsum(change)[: len(order) + 1]
