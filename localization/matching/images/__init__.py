"""Matching two images: which pixels of them show the same point.

A matcher is one file of this folder that members.py declares, or a plugin that registers itself in
`IMAGE_MATCHERS`; its name is then a value of `--matcher`. `mutual`, `lighterglue` and `lightglue` compare
keypoints of an extractor; `roma` and `mast3r` adapt dense matchers that a user has installed, and are
imported only when they are asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from gsplatloc.localization.features import Extractor
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import Registry

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class ImageMatches:
    """Pixels of two images that show the same point, on the CPU."""

    a: Tensor  # [M, 2] float32 pixels of the first image, first pixel centre = 0.5
    b: Tensor  # [M, 2] float32 pixels of the second
    confidence: Tensor  # [M] float32 in [0, 1], comparable within one matcher only

    def __len__(self) -> int:
        return self.a.shape[0]

    def select(self, index: Tensor) -> ImageMatches:
        """The matches at `index` (indices or a mask)."""
        return ImageMatches(self.a[index], self.b[index], self.confidence[index])


class ImageMatcher(Protocol):
    """Matches two images [H, W, 3] uint8 RGB of any sizes."""

    name: str

    def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches: ...


# Factories take (options: NoOptions, extractor: Extractor). Dense matchers use the extractor's device only.
IMAGE_MATCHERS = Registry[ImageMatcher]("matcher", __name__, has_options=False)


def make_matcher(name: str, extractor: Extractor) -> ImageMatcher:
    """The matcher called `name`, of the keypoints of `extractor` and on its device.

    Raises `GSplatLocError` for an unknown name, an extractor that the matcher was not trained for, and a
    package that has to be installed first.
    """
    return IMAGE_MATCHERS.make(name, (), extractor)


def no_matches() -> ImageMatches:
    """The matches of two images that have nothing in common."""
    import torch  # as above: loaded where images are matched, not with this module

    return ImageMatches(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))


def optional_module(name: str, matcher: str, install: str) -> ModuleType:
    """The module `name`; raises `GSplatLocError` that says how to `install` it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise GSplatLocError(
            f"expected the package of --matcher {matcher}, found {error}: {install}, or use --matcher mutual"
        ) from None
