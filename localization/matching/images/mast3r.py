"""MASt3R: matches between the dense descriptors of a 3D-aware transformer, if it is installed.

Leroy et al., "Grounding Image Matching in 3D with MASt3R" (ECCV 2024); the matcher of GS-CPR. Its code and
weights are for non-commercial use only: they are neither part of this project nor downloaded by it.
"""

from typing import Any

import cv2
import numpy as np
import torch

from gsplatloc.localization.features import Extractor
from gsplatloc.localization.matching.images import (
    ImageMatcher,
    ImageMatches,
    optional_module,
)
from gsplatloc.utils.registry import NoOptions

MODEL = "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric"
_INSTALL = (
    "git clone --recursive https://github.com/naver/mast3r, install its requirements and put it on PYTHONPATH"
)
_SIDE = 512  # pixels: the longer side that the network was trained for
_PATCH = 16  # pixels: sides are multiples of it
_STRIDE = 8  # pixels between the first image's descriptors that are matched (the authors' setting)
_BORDER = 3  # pixels of the network's images where matches are not trusted (likewise)
_BLOCK = 2**13  # descriptors compared at a time (likewise)


class Mast3rMatcher:
    """`ImageMatcher` by MASt3R's fast reciprocal matching."""

    name = "mast3r"

    def __init__(self, device: torch.device | str = "cpu", model: Any = None):
        """`model`: a loaded MASt3R, made here if not given; raises `GSplatLocError` without the package."""
        self.device = torch.device(device)
        networks = optional_module("mast3r.model", self.name, _INSTALL)
        self._reciprocal = optional_module("mast3r.fast_nn", self.name, _INSTALL).fast_reciprocal_NNs
        optional_module("mast3r.utils.path_to_dust3r", self.name, _INSTALL)  # puts dust3r on the path
        self._inference = optional_module("dust3r.inference", self.name, _INSTALL).inference
        self._model = model or networks.AsymmetricMASt3R.from_pretrained(MODEL).to(self.device)

    @torch.no_grad()
    def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches:
        """Reciprocal matches between two images [H, W, 3] uint8 RGB."""
        inputs = tuple(_network_input(image, index) for index, image in enumerate((image_a, image_b)))
        output = self._inference([inputs], self._model, self.device, batch_size=1, verbose=False)
        described = [output[key]["desc"].squeeze(0).detach() for key in ("pred1", "pred2")]
        confident = [output[key]["desc_conf"].squeeze(0).detach().cpu() for key in ("pred1", "pred2")]
        index_a, index_b = self._reciprocal(
            *described,
            subsample_or_initxy1=_STRIDE,
            device=self.device,
            dist="dot",
            block_size=_BLOCK,
        )
        pixels = [torch.from_numpy(np.array(index, np.int64)) for index in (index_a, index_b)]
        kept = _inside(pixels[0], confident[0]) & _inside(pixels[1], confident[1])
        a, b = pixels[0][kept], pixels[1][kept]
        confidence = torch.minimum(confident[0][a[:, 1], a[:, 0]], confident[1][b[:, 1], b[:, 0]])
        return ImageMatches(
            _to_pixels(a, confident[0], image_a),
            _to_pixels(b, confident[1], image_b),
            (1 - 1 / (1 + confidence.float().clamp(min=0))),  # its confidence is any positive number
        )


def _network_input(image: np.ndarray, index: int) -> dict[str, Any]:
    """An image [H, W, 3] as `dust3r.utils.image.load_images` returns it, but stretched instead of cropped."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = tuple(max(_PATCH, round(side * scale / _PATCH) * _PATCH) for side in (width, height))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, size, interpolation=interpolation)
    tensor = torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 127.5 - 1
    return {
        "img": tensor,
        "true_shape": np.array([[size[1], size[0]]], np.int32),
        "idx": index,
        "instance": str(index),
    }


def _inside(index: torch.Tensor, plane: torch.Tensor) -> torch.Tensor:
    """Mask [M] of the pixel indices [M, 2] of `plane` [h, w] that are not at its border."""
    size = torch.tensor([plane.shape[1], plane.shape[0]])
    return ((index >= _BORDER) & (index < size - _BORDER)).all(1)


def _to_pixels(index: torch.Tensor, plane: torch.Tensor, image: np.ndarray) -> torch.Tensor:
    """Pixel indices of the network's image -> pixels of ours [M, 2], first pixel centre = 0.5."""
    scale = torch.tensor([image.shape[1] / plane.shape[1], image.shape[0] / plane.shape[0]])
    return (index + 0.5) * scale


def make(options: NoOptions, extractor: Extractor) -> ImageMatcher:
    return Mast3rMatcher(extractor.device)
