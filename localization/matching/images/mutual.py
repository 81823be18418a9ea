"""Mutual nearest neighbours among the keypoints of any extractor: milliseconds, and one threshold."""

from torch import Tensor

from gsplatloc.localization.features import Extractor, Keypoints
from gsplatloc.localization.matching.images import ImageMatcher
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher, Size
from gsplatloc.localization.matching.nearest import mutual_nearest
from gsplatloc.utils.registry import NoOptions

_MIN_COSINE = 0.7  # between descriptors that match; RANSAC decides on the rest


class MutualMatcher(KeypointMatcher):
    """`ImageMatcher` by mutual nearest descriptors; the confidence is their cosine."""

    name = "mutual"

    def pair(self, a: Keypoints, size_a: Size, b: Keypoints, size_b: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs whose cosine is at least 0.7; sizes do not matter."""
        pairs = mutual_nearest(a.descriptors, b.descriptors.to(a.descriptors), _MIN_COSINE)
        return pairs.index_a, pairs.index_b, pairs.similarity


def make(options: NoOptions, extractor: Extractor) -> ImageMatcher:
    return MutualMatcher(extractor)
