"""The operations and bytes of feature splatting, counted in plain PyTorch from the scene alone.

A tile of 16 x 16 pixels with the Gaussians that reach it, nearest first, until every pixel is opaque, is a
matrix product W [256, K] times F [K, C]: 2 * 256 * K * C operations. Bytes are the fewest that must move:
the descriptors of every Gaussian that some tile uses, its shape and its entry in the tile's list, each read
once, and the feature map written once. The backward pass with respect to the features, W^T times the
gradient, is as much again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, reference
from gsplatloc.gaussian_renderer.options import Splats
from gsplatloc.scene.cameras import Camera

TILE = 16  # pixels
_CHUNK = 16  # list entries that are evaluated together
_SHAPE_BYTES, _ENTRY_BYTES = 24, 4


@dataclass(frozen=True)
class SplattingWork:
    """Of one pass, forward or backward."""

    pairs: int  # (tile, Gaussian) that are evaluated before the tile is opaque
    gaussians: int  # different ones among them
    flops: float
    bytes: float


@torch.no_grad()
def count_work(inputs: dict[str, Tensor], camera: Camera) -> SplattingWork:
    """Work of splatting `inputs["features"]` [N, C] at the size of `camera`."""
    splats = Splats(**{name: inputs[name] for name in ("means", "opacities", "quaternions", "scales")})
    options, size = RenderOptions(), (camera.width, camera.height)
    projected = reference.project(splats, camera, inputs["cam_from_world"], options)
    prints = reference.footprints(projected, splats.opacities, size, (1.0, 1.0), options)
    order = projected.depths.argsort(stable=True)
    order = order[prints.radii[order] > 0]  # visible Gaussians, nearest first
    used = torch.zeros(len(prints.means), dtype=torch.bool, device=order.device)
    pairs = 0
    for top in range(0, camera.height, TILE):
        band = order[_overlaps(prints, order, 1, top)]
        for left in range(0, camera.width, TILE):
            tile = band[_overlaps(prints, band, 0, left)]
            count, entries = _until_opaque(prints, tile, left, top)
            pairs += count
            used[entries] = True
    channels, different = inputs["features"].shape[1], int(used.sum())
    moved = different * (4 * channels + _SHAPE_BYTES) + pairs * _ENTRY_BYTES
    moved += 4 * channels * camera.width * camera.height
    return SplattingWork(pairs, different, 2.0 * TILE * TILE * pairs * channels, float(moved))


def _overlaps(prints: reference.Footprints, index: Tensor, axis: int, begin: int) -> Tensor:
    """Whether the squares around Gaussians touch a row or a column of tiles."""
    mean, radius = prints.means[index, axis], prints.radii[index].float()
    return (mean + radius >= begin) & (mean - radius <= begin + TILE)


def _until_opaque(prints: reference.Footprints, index: Tensor, left: int, top: int) -> tuple[int, Tensor]:
    """Entries of a tile's list before all its pixels are opaque, in whole chunks: how many, and which."""
    steps = torch.arange(TILE, device=index.device) + 0.5
    x = left + steps.repeat(TILE) - prints.means[index, 0:1]  # [K, 256]
    y = top + steps.repeat_interleave(TILE) - prints.means[index, 1:2]
    a, b, c = prints.conics[index].T[..., None]
    alpha = prints.opacities[index, None] * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)
    reaches = (alpha >= reference.MIN_ALPHA).any(1)  # some pixel centre of the tile
    alpha = torch.where(alpha >= reference.MIN_ALPHA, alpha.clamp(max=reference.MAX_ALPHA), 0.0)[reaches]
    clear = (1 - alpha).cumprod(0).amax(1) >= reference.MIN_TRANSMITTANCE  # after each entry
    finished = min(int(clear.sum()) // _CHUNK * _CHUNK + _CHUNK, len(clear))
    return finished, index[reaches][:finished]
