"""Matching two images: pixels of the one beside pixels of the other. Each matcher lives in its own file.

`mutual` and `lighterglue` compare XFeat keypoints; `roma` and `mast3r` adapt dense matchers that a user has
installed: nothing of them is needed, imported or downloaded before they are asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from gsplatloc.utils.errors import GSplatLocError

MatcherName = Literal["mutual", "lighterglue", "roma", "mast3r"]


@dataclass(frozen=True)
class ImageMatches:
    """Pixels of two images that show the same place, on the CPU."""

    a: Tensor  # [M, 2] float32 pixels of the first image, first pixel centre = 0.5
    b: Tensor  # [M, 2] float32 pixels of the second
    confidence: Tensor  # [M] float32 in [0, 1], comparable within one matcher only

    def __len__(self) -> int:
        return self.a.shape[0]

    def select(self, index: Tensor) -> "ImageMatches":
        """The matches at `index` (indices or a mask)."""
        return ImageMatches(self.a[index], self.b[index], self.confidence[index])


class ImageMatcher(Protocol):
    """Matches two images [H, W, 3] uint8 RGB of any sizes."""

    name: str

    def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches: ...


def no_matches() -> ImageMatches:
    """What two images have in common where they have nothing."""
    return ImageMatches(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))


def make_matcher(name: str, device: torch.device | str = "cpu", top_k: int = 2048) -> ImageMatcher:
    """The matcher called `name` with its network on `device`; `top_k` keypoints per image at most, if any.

    Raises `GSplatLocError` for an unknown name, and for a package that has to be installed first.
    """
    if name not in get_args(MatcherName):
        raise GSplatLocError(
            f"expected a matcher among {', '.join(get_args(MatcherName))}, found '{name}': see --matcher"
        )
    makers: dict[str, Callable[[], ImageMatcher]] = {
        "mutual": lambda: _mutual(device, top_k),
        "lighterglue": lambda: _lighterglue(device, top_k),
        "roma": lambda: _roma(device),
        "mast3r": lambda: _mast3r(device),
    }
    return makers[name]()


def _mutual(device: torch.device | str, top_k: int) -> ImageMatcher:
    from gsplatloc.localization.features.xfeat import XFeatExtractor
    from gsplatloc.localization.matching.images.mutual import MutualMatcher

    return MutualMatcher(XFeatExtractor(device, top_k))


def _lighterglue(device: torch.device | str, top_k: int) -> ImageMatcher:
    from gsplatloc.localization.features.xfeat import XFeatExtractor
    from gsplatloc.localization.matching.images.lighterglue import LighterGlueMatcher

    return LighterGlueMatcher(XFeatExtractor(device, top_k))


def _roma(device: torch.device | str) -> ImageMatcher:
    from gsplatloc.localization.matching.images.roma import RomaMatcher

    return RomaMatcher(device)


def _mast3r(device: torch.device | str) -> ImageMatcher:
    from gsplatloc.localization.matching.images.mast3r import Mast3rMatcher

    return Mast3rMatcher(device)
