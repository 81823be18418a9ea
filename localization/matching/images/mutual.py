"""Mutual nearest neighbours among XFeat keypoints: milliseconds, and no parameters but one cosine."""

import torch

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.matching.images.keypoints import Extractor, KeypointMatcher, Size
from gsplatloc.localization.matching.nearest import mutual_nearest

MIN_COSINE = 0.7  # between descriptors that match; RANSAC decides on the rest


class MutualMatcher(KeypointMatcher):
    """`ImageMatcher` by mutual nearest descriptors; the confidence is their cosine."""

    name = "mutual"

    def __init__(self, extractor: Extractor, min_cosine: float = MIN_COSINE):
        super().__init__(extractor)
        self.min_cosine = min_cosine

    def pair(
        self, a: Keypoints, size_a: Size, b: Keypoints, size_b: Size
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs whose cosine is at least `min_cosine`; sizes do not matter."""
        pairs = mutual_nearest(a.descriptors, b.descriptors.to(a.descriptors), self.min_cosine)
        return pairs.index_a, pairs.index_b, pairs.similarity
