"""Exposure compensation: one linear transform from the colours of a rendering to those of a photo.

A rendering has the mean exposure of the mapping images, a photo its own. Sources of the
transform rgb' = K rgb + b:

- `ExposureNetwork`, the exposure-adaptive colour transform (ACT) of Chen et al., "Neural Refinement for
  Absolute Pose Regression with Feature Synthesis" (CVPR 2024), which GS-CPR (Liu et al., ICLR 2025) trains
  with its Gaussians: the histogram of the photo's luminance goes through a small MLP. It never looks at the
  rendering, and does not depend on the rendering's pose.
- `fit_affine`, reweighted least squares for one photo and one rendering. Nothing is trained; both images are
  averaged over cells first, since their poses differ by centimetres or more.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsplatloc.localization.alignment.rendered_view import luma
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FILE_NAME = "exposure.safetensors"  # in a map's folder
BINS = 10  # of the luminance histogram (the papers' setting)
_WIDTH = 32  # units of the MLP's two hidden layers
_GRID = (15, 20)  # cells over which colours are averaged: displaced content mostly stays in its cell
_MIN_OPAQUE = 0.5  # alpha of a mapped pixel, and the share of mapped pixels in a cell that is used
_ROUNDS = 8  # of reweighted least squares
_RIDGE = 0.002  # cells, per colour: the weight of the identity; a grey view does not determine tints
_MIN_SCALE = 0.01  # of colour residuals: no two images agree better


@dataclass(frozen=True)
class ColorTransform:
    """rgb' = matrix rgb + bias."""

    matrix: Tensor  # [3, 3]
    bias: Tensor  # [3]

    def apply(self, rgb: Tensor) -> Tensor:
        """The image [3, H, W], not clamped."""
        return torch.einsum("dc,chw->dhw", self.matrix, rgb) + self.bias[:, None, None]


def luminance_histogram(rgb: Tensor) -> Tensor:
    """Shares [BINS] of the pixels of [3, H, W] in [0, 1] by luminance, interpolated between bins."""
    level = luma(rgb)[::2, ::2].flatten().clamp(0, 1) * (BINS - 1)
    bins = torch.arange(BINS, dtype=level.dtype, device=level.device)
    return (1 - (level[:, None] - bins).abs()).clamp(min=0).mean(0)  # each pixel shared by its two bins


class ExposureNetwork(nn.Module):
    """Luminance histogram -> colour transform; the identity before training and for the mean histogram.

    Otherwise all photos could brighten while the map darkens.
    """

    mean_histogram: Tensor  # [BINS] of the photos seen in training
    seen: Tensor  # [] how many

    def __init__(self, seed: int = 0) -> None:
        """`seed` of the weights of all layers but the last, whose weights are zero."""
        super().__init__()
        first, second, last = nn.Linear(BINS, _WIDTH), nn.Linear(_WIDTH, _WIDTH), nn.Linear(_WIDTH, 12)
        generator = torch.Generator().manual_seed(seed)
        for layer in (first, second):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        self.register_buffer("mean_histogram", torch.full((BINS,), 1 / BINS))
        self.register_buffer("seen", torch.zeros(()))

    def observe(self, histogram: Tensor) -> None:
        """Count a training photo's histogram [BINS] into the mean."""
        self.seen += 1
        self.mean_histogram += (histogram - self.mean_histogram) / self.seen

    def forward(self, histogram: Tensor) -> ColorTransform:
        """The transform of a photo with this histogram [BINS]."""
        values = self.layers(torch.stack([histogram, self.mean_histogram]))
        change = (values[0] - values[1]).reshape(3, 4)
        return ColorTransform(torch.eye(3, device=change.device) + change[:, :3], change[:, 3])

    @torch.no_grad()
    def of_photo(self, image: np.ndarray) -> ColorTransform:
        """The transform of a photo [H, W, 3] uint8."""
        return self(luminance_histogram(to_rgb(image, self.mean_histogram.device)))


def save_exposure(path: Path | str, network: ExposureNetwork) -> None:
    """Write a network, atomically."""
    write_tensors(path, network.state_dict())


def load_exposure(path: Path | str) -> ExposureNetwork:
    """A network that `save_exposure` wrote; raises `GSplatLocError` where there is none."""
    network = ExposureNetwork()
    with stored_tensors(path, "an exposure network", "map with --exposure_model act") as (tensors, _):
        network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def fit_affine(rendered: Tensor, photo: Tensor, alpha: Tensor) -> ColorTransform:
    """The transform of the rendering [3, H, W] to the photo [3, H, W], fitted where alpha [H, W] is high.

    Iteratively reweighted least squares with Cauchy weights over the means of cells, and a weak prior: the
    identity. With too few mapped cells it is the identity.
    """
    mapped = (alpha > _MIN_OPAQUE).to(rendered)
    share = _cell_means(mapped[None])
    kept = share[:, 0] > _MIN_OPAQUE
    source, target = (_cell_means(image * mapped)[kept] / share[kept] for image in (rendered, photo))
    design, target = F.pad(source, (0, 1), value=1.0).double(), target.double()  # [N, 4], [N, 3]
    identity = torch.eye(4, 3, dtype=torch.float64, device=design.device)
    initial = _RIDGE * torch.eye(4, dtype=torch.float64, device=design.device) * max(len(design), 1)
    weight, affine = torch.ones_like(target[:, 0]), identity
    for _ in range(_ROUNDS if len(design) else 0):
        weighted = design * weight[:, None]
        affine = torch.linalg.solve(weighted.T @ design + initial, weighted.T @ target + initial @ identity)
        residual = (design @ affine - target).norm(dim=1)
        scale = residual.median().clamp(min=_MIN_SCALE)
        weight = 1 / (1 + (residual / scale) ** 2)
    affine = affine.to(rendered)
    return ColorTransform(affine[:3].T, affine[3])


def _cell_means(image: Tensor) -> Tensor:
    """[C, H, W] -> [cells, C]"""
    return F.adaptive_avg_pool2d(image[None], _GRID)[0].flatten(1).T


def to_rgb(image: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """[H, W, 3] uint8 -> [3, H, W] float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1).float() / 255
