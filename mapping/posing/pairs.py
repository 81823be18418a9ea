"""Which images are compared: those close together in the order of their names, and those that look alike.

All pairs of N images are N^2 / 2, and most of them show different places. Photos and frames are mostly taken
along a path, so neighbours by name overlap; where the path returns to a place, images are found by the
similarity of their pooled descriptors (VLAD, as in the index of a map's views).
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.localization.initial.view_index import pool, vocabulary

Pair = tuple[int, int]  # indices of two images, the smaller first

_EXHAUSTIVE = 24  # images up to which all pairs are compared
_STEPS = (1, 2, 3, 4, 6, 8, 12)  # distances in the order of names at which pairs are compared
_SIMILAR = 8  # most similar images that each image is compared with
_WORDS = 32  # of the vocabulary
_FEW = 3  # verified neighbours; an image with fewer is compared again, by the slower matcher
_AGAIN = 8  # images that it is then compared with


def similarities(maps: Callable[[], Iterable[Tensor]]) -> np.ndarray:
    """Cosines [N, N] of the images' pooled descriptors; `maps` yields the dense maps [D, h, w] anew."""
    words = vocabulary(_samples(maps()), _WORDS, torch.Generator().manual_seed(0))
    pooled = torch.stack([pool(dense, words) for dense in maps()])
    pooled = F.normalize(pooled - pooled.mean(0), dim=1)
    return (pooled @ pooled.T).numpy()


def _samples(maps: Iterable[Tensor], cells: int = 1024) -> list[Tensor]:
    """About `cells` descriptors [D, 1, n] of each dense map, evenly spread: enough for a vocabulary."""
    flat = (dense.flatten(1) for dense in maps)
    return [dense[:, :: max(1, dense.shape[1] // cells)].clone()[:, None] for dense in flat]


def first_pairs(similarity: np.ndarray) -> list[Pair]:
    """The pairs to compare, in order."""
    count = len(similarity)
    if count <= _EXHAUSTIVE:
        return [(a, b) for a in range(count) for b in range(a + 1, count)]
    pairs = {(a, a + step) for step in _STEPS for a in range(count - step)}
    return sorted(pairs | _most_similar(similarity, range(count), range(count), _SIMILAR))


def second_pairs(similarity: np.ndarray, verified: Iterable[Pair]) -> list[Pair]:
    """Pairs to compare by the slower matcher, after those that were `verified`.

    They are of images with few verified neighbours, and of those outside the largest connected group.
    """
    count = len(similarity)
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for a, b in verified:
        neighbours[a].add(b)
        neighbours[b].add(a)
    main = _largest_group(neighbours)
    weak = [image for image in range(count) if image not in main or len(neighbours[image]) < _FEW]
    others = sorted(main) or range(count)
    pairs = _most_similar(similarity, weak, others, _AGAIN)
    pairs |= {(a, a + 1) for a in range(count - 1) if a in weak or a + 1 in weak}
    return sorted(pair for pair in pairs if pair[1] not in neighbours[pair[0]])


def _most_similar(
    similarity: np.ndarray, images: Iterable[int], others: Iterable[int], most: int
) -> set[Pair]:
    candidates = np.array(list(others))
    pairs = set()
    for image in images:
        order = candidates[np.argsort(-similarity[image, candidates], kind="stable")]
        pairs |= {(min(image, int(b)), max(image, int(b))) for b in order[order != image][:most]}
    return pairs


def _largest_group(neighbours: list[set[int]]) -> set[int]:
    """The largest set of images that are connected by verified pairs; empty if there are none."""
    largest: set[int] = set()
    left = set(range(len(neighbours)))
    while left:
        reached, border = set[int](), [left.pop()]
        while border:
            image = border.pop()
            reached.add(image)
            border += neighbours[image] - reached
        left -= reached
        if len(reached) > max(1, len(largest)):
            largest = reached
    return largest
