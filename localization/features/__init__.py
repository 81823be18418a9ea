"""Local features of an image: keypoints with descriptors, and a dense map of descriptors.

An extractor is one file of this folder that members.py declares, or a plugin that registers itself in
`EXTRACTORS`. A map remembers the version of
the extractor that made its descriptors; queries are described by the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import Registry

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    import numpy as np
    import torch
    from torch import Tensor

DEFAULT_EXTRACTOR = "xfeat"


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of an image, those with the highest scores first."""

    xy: Tensor  # [N, 2] float32 pixels, first pixel centre = 0.5
    descriptors: Tensor  # [N, D] float32, L2-normalised
    scores: Tensor  # [N] float32, descending

    def __len__(self) -> int:
        return self.xy.shape[0]

    def select(self, index: Tensor | slice) -> Keypoints:
        """The keypoints at `index` (indices, a mask or a slice)."""
        return Keypoints(self.xy[index], self.descriptors[index], self.scores[index])

    def to(self, device: torch.device | str) -> Keypoints:
        return Keypoints(self.xy.to(device), self.descriptors.to(device), self.scores.to(device))


@dataclass(frozen=True)
class Features:
    """The output of one network pass over an image."""

    keypoints: Keypoints
    dense: Tensor  # [D, h, w] float32, L2-normalised; cell (r, c) is centred at ((c+.5)W/w, (r+.5)H/h)


class Extractor(Protocol):
    """Extracts features. It holds a network and no state: the same image gives the same features."""

    name: str  # the registered name
    version: str  # "NAME-..."; differs whenever the same image gives other features, except for rounding
    channels: int  # D
    device: torch.device
    top_k: int  # maximum number of keypoints per image

    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB, on `device`."""
        ...

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the dense map of a `width` x `height` image, in cells."""
        ...


# Factories take (options: NoOptions, device, top_k).
EXTRACTORS = Registry[Extractor]("feature extractor", __name__, has_options=False)


def make_extractor(
    name: str = DEFAULT_EXTRACTOR, device: torch.device | str = "cpu", top_k: int = 2048
) -> Extractor:
    """The extractor called `name`, its network on `device`, with at most `top_k` keypoints per image.

    Raises `GSplatLocError` for an unknown name, missing weights, and a version without the name.
    """
    extractor = EXTRACTORS.make(name, (), device, top_k)
    if not extractor.version.startswith(f"{name}-"):
        raise GSplatLocError(
            f"expected a version of the feature extractor that starts with {name}-, found"
            f" {extractor.version!r}: maps could not be queried with it, correct its version"
        )
    return extractor
