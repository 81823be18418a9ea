"""The part that matchers of keypoints share: the extractor, and images whose keypoints are known."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.features import Extractor, Keypoints
from gsplatloc.localization.matching.images import ImageMatches, no_matches

Size = tuple[int, int]  # (width, height) in pixels


class KeypointMatcher(ABC):
    """An `ImageMatcher` that compares the keypoints of two images: a subclass implements `pair`."""

    name: str

    def __init__(self, extractor: Extractor):
        self.extractor = extractor

    def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches:
        """Matches between the keypoints of two images [H, W, 3] uint8 RGB."""
        return self.match_keypoints(self.extractor.extract(image_a).keypoints, _size(image_a), image_b)

    @torch.no_grad()
    def match_keypoints(self, keypoints: Keypoints, size: Size, image_b: np.ndarray) -> ImageMatches:
        """Matches of an image whose keypoints are known: one query is matched with several renderings."""
        found = self.extractor.extract(image_b).keypoints
        if not len(keypoints) or not len(found):
            return no_matches()
        index_a, index_b, confidence = self.pair(keypoints, size, found, _size(image_b))
        return ImageMatches(
            keypoints.xy[index_a].float().cpu(), found.xy[index_b].float().cpu(), confidence.float().cpu()
        )

    @abstractmethod
    def pair(self, a: Keypoints, size_a: Size, b: Keypoints, size_b: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Indices [M] into `a` and `b`, and the confidence [M] of each pair."""


def _size(image: np.ndarray) -> Size:
    return image.shape[1], image.shape[0]
