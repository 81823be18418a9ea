"""How much work feature splatting is, counted in plain PyTorch from the scene alone.

A tile of 16 x 16 pixels with the Gaussians that reach it, nearest first, until every pixel is opaque, is a
matrix product W [256, K] times F [K, C]: 2 * 256 * K * C operations. Bytes are the fewest that must move:
the descriptors of every Gaussian that some tile looks at, its shape and its place in the tile's list, each
read once, and the feature map written once. The backward pass with respect to the features, W^T times the
gradient, is as much again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, reference
from gsplatloc.gaussian_renderer.options import Splats
from gsplatloc.scene.cameras import Camera

TILE = 16  # pixels
_CHUNK = 16  # list entries looked at together
_MOST_PAIRS = 4_000_000  # candidates tested for overlap together
_SHAPE_BYTES, _ENTRY_BYTES = 24, 4


@dataclass(frozen=True)
class SplattingWork:
    """Of one pass, forward or backward."""

    pairs: int  # (tile, Gaussian) that are looked at before the tile is opaque
    gaussians: int  # different ones among them
    flops: float
    bytes: float


@torch.no_grad()
def count_work(inputs: dict[str, Tensor], camera: Camera) -> SplattingWork:
    """Work of splatting `inputs["features"]` [N, C] at the size of `camera`."""
    prints, order = _footprints(inputs, camera)
    columns, rows = -(-camera.width // TILE), -(-camera.height // TILE)
    tile, gaussian = _tile_lists(prints, order, columns, rows)
    looked_at = _until_opaque(prints, tile, gaussian, columns, columns * rows)
    pairs, different = int(looked_at.sum()), len(gaussian[looked_at].unique())
    channels = inputs["features"].shape[1]
    moved = different * (4 * channels + _SHAPE_BYTES) + pairs * _ENTRY_BYTES
    moved += 4 * channels * camera.width * camera.height
    return SplattingWork(pairs, different, 2.0 * TILE * TILE * pairs * channels, float(moved))


def _footprints(inputs: dict[str, Tensor], camera: Camera) -> tuple[reference.Footprints, Tensor]:
    """Gaussians in the image, and the visible ones nearest first."""
    splats = Splats(
        means=inputs["means"], opacities=inputs["opacities"], quaternions=inputs["quaternions"],
        scales=inputs["scales"],
    )  # fmt: skip
    options = RenderOptions()
    projected = reference.project(splats, camera, inputs["cam_from_world"], options)
    prints = reference.footprints(
        projected, splats.opacities, (camera.width, camera.height), (1.0, 1.0), options
    )
    order = projected.depths.argsort(stable=True)
    return prints, order[prints.radii[order] > 0]


def _tile_lists(
    prints: reference.Footprints, order: Tensor, columns: int, rows: int
) -> tuple[Tensor, Tensor]:
    """(tile, Gaussian) of every pair in which alpha can reach 1/255, tile by tile, nearest first."""
    means, radii = prints.means[order], prints.radii[order].float()[:, None]
    last = means.new_tensor([columns - 1, rows - 1])
    low = torch.minimum(((means - radii) / TILE).floor().clamp(min=0), last).long()
    high = torch.minimum(((means + radii) / TILE).floor().clamp(min=0), last).long()
    spans = high - low + 1
    counts = spans.prod(1)
    tiles, ranks = [order[:0]], [order[:0]]
    begin = 0
    cumulative = counts.cumsum(0)
    while begin < len(order):
        before = int(cumulative[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(cumulative, before + _MOST_PAIRS, right=True)))
        rank = torch.arange(begin, end, device=order.device).repeat_interleave(counts[begin:end])
        first = (cumulative - counts)[rank] - before
        offset = torch.arange(len(rank), device=order.device) - first
        column = low[rank, 0] + offset % spans[rank, 0]
        row = low[rank, 1] + offset // spans[rank, 0]
        kept = _reaches(prints, order[rank], column, row)
        tiles.append((row * columns + column)[kept])
        ranks.append(rank[kept])
        begin = end
    tile, rank = torch.cat(tiles), torch.cat(ranks)
    by_tile = tile.argsort(stable=True)  # ranks ascend within each tile
    return tile[by_tile], order[rank[by_tile]]


def _reaches(prints: reference.Footprints, gaussian: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Whether alpha reaches 1/255 somewhere between the outermost pixel centres of the tile."""
    a, b, c = prints.conics[gaussian].unbind(1)
    mean = prints.means[gaussian]
    left, top = (column * TILE + 0.5) - mean[:, 0], (row * TILE + 0.5) - mean[:, 1]
    right, bottom = left + (TILE - 1), top + (TILE - 1)
    # The least power over a box is at the mean, if inside, else on one of the four edges.
    least = torch.where((left <= 0) & (right >= 0) & (top <= 0) & (bottom >= 0), 0.0, torch.inf)
    for x in (left, right):
        y = torch.minimum(torch.maximum(-b * x / c, top), bottom)
        least = torch.minimum(least, 0.5 * (a * x * x + c * y * y) + b * x * y)
    for y in (top, bottom):
        x = torch.minimum(torch.maximum(-b * y / a, left), right)
        least = torch.minimum(least, 0.5 * (a * x * x + c * y * y) + b * x * y)
    return prints.opacities[gaussian] * torch.exp(-least) >= reference.MIN_ALPHA


def _until_opaque(
    prints: reference.Footprints, tile: Tensor, gaussian: Tensor, columns: int, tiles: int
) -> Tensor:
    """Which pairs are looked at before their tile is opaque, in whole chunks of entries."""
    device = tile.device
    length = torch.bincount(tile, minlength=tiles)
    begin = length.cumsum(0) - length
    offsets = torch.arange(TILE, device=device) + 0.5
    looked_at = torch.zeros(len(tile), dtype=torch.bool, device=device)
    active = (length > 0).nonzero()[:, 0]
    clear = torch.ones(tiles, TILE * TILE, device=device)
    step = 0
    while len(active):
        entry = begin[active, None] + step + torch.arange(_CHUNK, device=device)  # [T, chunk]
        valid = entry < (begin + length)[active, None]
        looked_at[entry[valid]] = True
        index = gaussian[entry.clamp(max=len(gaussian) - 1)]
        x = (active % columns * TILE)[:, None, None] + offsets.repeat(TILE) - prints.means[index][..., 0:1]
        y = (active // columns * TILE)[:, None, None] + offsets.repeat_interleave(TILE)
        y = y - prints.means[index][..., 1:2]
        a, b, c = (part[..., None] for part in prints.conics[index].unbind(-1))
        alpha = prints.opacities[index][..., None] * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)
        alpha = torch.where((alpha >= reference.MIN_ALPHA) & valid[..., None], alpha.clamp(max=0.99), 0.0)
        clear[active] *= (1 - alpha).prod(1)
        step += _CHUNK
        going_on = (clear[active].amax(1) >= reference.MIN_TRANSMITTANCE) & (length[active] > step)
        active = active[going_on]
    return looked_at
