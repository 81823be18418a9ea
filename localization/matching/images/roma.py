"""RoMa: dense matches of every pixel, through the package `romatch`, if it is installed.

Edstedt et al., "RoMa: Robust Dense Feature Matching" (CVPR 2024). `romatch` downloads its weights (about
1.5 GB) on first use. Its coordinates run from -1 to 1 over the image, corner to corner: our convention.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gsplatloc.localization.features import Extractor
from gsplatloc.localization.matching.images import (
    ImageMatcher,
    ImageMatches,
    optional_module,
)
from gsplatloc.utils.registry import NoOptions

_INSTALL = "pip install romatch"
_SAMPLES = 5000  # matches drawn from the dense warp: more do not make PnP more accurate


class RomaMatcher:
    """`ImageMatcher` by RoMa (outdoor weights, which its authors recommend for all scenes)."""

    name = "roma"

    def __init__(self, device: torch.device | str = "cpu", model: Any = None):
        """`model`: a loaded RoMa, made here if not given; raises `GSplatLocError` without the package."""
        self.device = torch.device(device)
        if model is None:
            # A CPU would take minutes in half precision, which is RoMa's default.
            precision = torch.float32 if self.device.type == "cpu" else torch.float16
            romatch = optional_module("romatch", self.name, _INSTALL)
            model = romatch.roma_outdoor(device=self.device, amp_dtype=precision)
        self._model = model

    @torch.no_grad()
    def match(self, image_a: np.ndarray, image_b: np.ndarray) -> ImageMatches:
        """Matches drawn evenly from the warp between two images [H, W, 3] uint8 RGB."""
        with tempfile.TemporaryDirectory() as folder:  # all releases of romatch accept paths
            paths = [str(Path(folder) / name) for name in ("a.png", "b.png")]
            for path, image in zip(paths, (image_a, image_b)):
                Image.fromarray(image).save(path, compress_level=1)
            warp, certainty = self._model.match(*paths, device=self.device)
        matches, certainty = self._model.sample(warp, certainty, num=_SAMPLES)
        a, b = self._model.to_pixel_coordinates(matches, *image_a.shape[:2], *image_b.shape[:2])
        return ImageMatches(a.float().cpu(), b.float().cpu(), certainty.float().cpu().clamp(0, 1))


def make(options: NoOptions, extractor: Extractor) -> ImageMatcher:
    return RomaMatcher(extractor.device)
