"""Photos that were turned by a quarter turn without saying so in their EXIF data.

Local features are not invariant to turns: a portrait photo, stored as the sensor saw it, matches no landscape
photo. Photos of the rarer orientation are therefore compared with the others in each quarter turn, and their
features are taken in the one that matches clearly better. Their keypoints stay in pixels of the photo itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.localization.quarter_turns import turn_image
from gsplatloc.localization.queries import QueryImage
from gsplatloc.mapping.feature_cache import FeatureCache

Size = tuple[int, int]  # width, height

_CLEARLY = 1.5  # times better a turned photo must match the others
_CERTAIN = 1.0  # support that it needs: photos of other places have less
_STRONGEST = 512  # keypoints of each photo that are compared
_ALIKE = 0.85  # cosine of matches that count; wrong ones are seldom more similar
_NEAREST, _SPREAD = 8, 8  # photos of the other orientation: nearest by name, and spread over all


def upright(photos: Sequence[QueryImage], sizes: Sequence[Size], cache: FeatureCache) -> list[int]:
    """The quarter turns, counterclockwise, that make each photo of size `sizes` match the others best."""
    portrait = np.array([height > width for width, height in sizes])
    rare = portrait if 2 * portrait.sum() < len(photos) else ~portrait
    turns = [0] * len(photos)
    if rare.all() or not rare.any():
        return turns
    others = np.flatnonzero(~rare)
    for index in np.flatnonzero(rare).tolist():
        nearest = others[np.argsort(np.abs(others - index), kind="stable")[:_NEAREST]]
        spread = others[:: max(1, len(others) // _SPREAD)]
        compared = [_strongest(cache, photos[other]) for other in np.union1d(nearest, spread).tolist()]
        support = [_support(_strongest(cache, turned(photos[index], turn)), compared) for turn in range(4)]
        best = int(np.argmax(support))
        if support[best] > max(_CERTAIN, _CLEARLY * support[0]):
            turns[index] = best
    return turns


def turned(photo: QueryImage, quarters: int) -> QueryImage:
    """The photo turned counterclockwise, under a name of its own."""
    if quarters == 0:
        return photo
    image = partial(_turned_image, photo, quarters)
    return replace(photo, name=f"{photo.name}@{quarters}", load_image=image)


def turned_size(size: Size, quarters: int) -> Size:
    """The size of the turned photo."""
    return size if quarters % 2 == 0 else (size[1], size[0])


def turned_back(keypoints: Keypoints, size: Size, quarters: int) -> Keypoints:
    """Keypoints of the turned photo in pixels of the photo, of `size`."""
    width, height = turned_size(size, quarters)
    x, y = keypoints.xy.unbind(1)
    for _ in range(-quarters % 4):
        x, y, width, height = y, width - x, height, width
    return replace(keypoints, xy=torch.stack([x, y], 1))


def _turned_image(photo: QueryImage, quarters: int) -> np.ndarray:
    return turn_image(photo.load_image(), quarters)


def _strongest(cache: FeatureCache, photo: QueryImage) -> torch.Tensor:
    return cache.load_keypoints(photo).descriptors[:_STRONGEST].to(cache.extractor.device)


def _support(descriptors: torch.Tensor, compared: Sequence[torch.Tensor]) -> float:
    """How well descriptors match those of other photos: the sum of the cosines above 0.85."""
    cosines = torch.cat([mutual_nearest(descriptors, other).similarity for other in compared])
    return (cosines - _ALIKE).clamp(min=0).sum().item()
