"""The appearance of a splat around one of its Gaussians, from the Gaussians next to it alone.

The Gaussians nearest to an anchor in the image plane, and near its depth, are drawn on a small grid of cells
around the anchor, front to back:

    alpha_ij = o_j sqrt(|S_j| / |S'_j|) exp(-1/2 d_ij^T S'_j^-1 d_ij),   S'_j = S_j + s^2/12 I
    w_ij = alpha_ij prod_{k before j} (1 - alpha_ik),   grid_i = sum_j w_ij (grey_j, 1, (z_j - z_a) / z_a)

with S_j the covariance of Gaussian j on the image (Zwicker et al., EWA Volume Splatting, 2001), s the side of
a cell and d_ij the vector from the centre of cell i to that of the Gaussian. What stands before the anchor or
behind it at another depth is left out, so that the same surface looks the same from wherever it can be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import basis
from gsplatloc.utils import se3

CHANNELS = 3  # grey, alpha and relative depth
_LOW_PASS = 0.3  # squared pixels, as in the renderer
_MIN_OPACITY = 0.05  # fainter Gaussians are left out
_MARGIN = 0.3  # of the image's size: Gaussians beside it are drawn too
_SAME_SURFACE = 0.15  # relative difference in depth to the anchor
_MAX_ALPHA = 0.99
_MIN_POWER = -20.0  # denormal numbers beyond would take many times as long
_NEAR = 1e-3
_REACH = 1.5  # standard deviations by which a large Gaussian is nearer than its centre
_SAME_DEPTH = 0.05  # logarithm: Gaussians that are merged differ by no more
_CELLS, _LONE = 1 << 20, 1 << 62  # more than an image has cells along a side; than there are keys of cells
_TILE = 64.0  # pixels: side of the tiles of anchors that are drawn together


@dataclass(frozen=True)
class Grid:
    """A square of cells around an anchor."""

    side: int = 16  # cells
    cell_px: float = 3.0  # pixels of the image per cell
    neighbours: int = 128  # Gaussians drawn

    def centres(self) -> Tensor:
        """Centres of the cells [cells, 2] in pixels relative to the anchor, rows first."""
        steps = (torch.arange(self.side) + 0.5 - self.side / 2) * self.cell_px
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        return torch.stack([x, y], -1).reshape(-1, 2)


@dataclass(frozen=True)
class Projected:
    """The Gaussians before a camera, nearest first."""

    xy: Tensor  # [M, 2] pixels
    z: Tensor  # [M]
    covariance: Tensor  # [M, 2, 2] squared pixels
    opacity: Tensor  # [M]
    grey: Tensor  # [M]: mean of the channels seen from the camera, which is what XFeat sees

    def select(self, index: Tensor) -> "Projected":
        """Those at `index`."""
        columns = (self.xy, self.z, self.covariance, self.opacity, self.grey)
        return Projected(*(column[index] for column in columns))


def project(gaussians: Gaussians, camera: Camera, cam_from_world: Tensor) -> Projected:
    """The Gaussians in and beside the image of `camera` at `cam_from_world` [4, 4]."""
    pose = cam_from_world.to(gaussians.means)
    local = se3.transform(pose, gaussians.means)
    xy = camera.project(local)
    size = torch.tensor([camera.width, camera.height]).to(xy)
    shown = ((xy > -_MARGIN * size) & (xy < (1 + _MARGIN) * size)).all(1) & (local[:, 2] > _NEAR)
    index = (shown & (gaussians.opacities > _MIN_OPACITY)).nonzero()[:, 0]
    index = index[local[index, 2].argsort(stable=True)]
    chosen, local = gaussians.select(index), local[index]
    direction = torch.nn.functional.normalize(chosen.means - se3.camera_center(pose).to(local), dim=1)
    rgb = 0.5 + torch.einsum("nk,nkc->nc", basis(direction, chosen.sh_degree), chosen.sh)
    return Projected(
        xy[index],
        local[:, 2],
        _image_covariances(chosen, local, camera, pose[:3, :3]),
        chosen.opacities,
        rgb.clamp(min=0).mean(1),
    )


def _image_covariances(gaussians: Gaussians, local: Tensor, camera: Camera, rotation: Tensor) -> Tensor:
    """Covariances [M, 2, 2] on the image, with the renderer's low pass."""
    x, y, z = local.unbind(1)
    zero, limit = torch.zeros_like(z), 1.3 * max(camera.width / camera.fx, camera.height / camera.fy)
    x, y = (x / z).clamp(-limit, limit), (y / z).clamp(-limit, limit)
    rows = [torch.stack([camera.fx / z, zero, -camera.fx * x / z], 1)]
    rows += [torch.stack([zero, camera.fy / z, -camera.fy * y / z], 1)]
    axes = se3.rotation_from_quaternion(gaussians.quaternions) * gaussians.scales[:, None, :]
    root = torch.stack(rows, 1) @ rotation @ axes
    return root @ root.transpose(1, 2) + _LOW_PASS * torch.eye(2).to(root)


def merged(seen: Projected, cell_px: float) -> Projected:
    """The same with small Gaussians of one cell, and of about one depth, replaced by one of their moments."""
    area = determinant(seen.covariance).clamp(min=1e-12).sqrt()
    small = area < cell_px**2
    own = torch.arange(len(area), device=area.device)
    column, row = (seen.xy / cell_px).floor().long().T + _CELLS // 2
    layer = (seen.z.log() / _SAME_DEPTH).floor().long()
    key = torch.where(small, (layer * _CELLS + row) * _CELLS + column, _LONE + own)
    group = key.unique(return_inverse=True)[1]
    count = int(group.max()) + 1 if len(group) else 0
    weight = seen.opacity * area

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(count, *values.shape[1:]).index_add_(0, group, values)

    mass = total(weight)
    share = weight / mass[group]
    xy, z, grey = total(share[:, None] * seen.xy), total(share * seen.z), total(share * seen.grey)
    off = seen.xy - xy[group]
    spread = seen.covariance + off[:, :, None] * off[:, None, :]
    covariance = total(share[:, None, None] * spread)
    opacity = (mass / determinant(covariance).clamp(min=1e-12).sqrt()).clamp(max=_MAX_ALPHA)
    order = z.argsort(stable=True)
    return Projected(xy[order], z[order], covariance[order], opacity[order], grey[order])


def determinant(covariance: Tensor) -> Tensor:
    """[..., 2, 2] -> [...]; torch's own is slow for many small matrices."""
    return covariance[..., 0, 0] * covariance[..., 1, 1] - covariance[..., 0, 1] ** 2


def draw(seen: Projected, xy: Tensor, z: Tensor, grid: Grid) -> Tensor:
    """The surroundings of anchors at pixels `xy` [A, 2] and depths `z` [A]: [A, 3, side, side].

    Anchors are taken tile by tile, because only the Gaussians about a tile are compared with its anchors.
    """
    drawn = xy.new_zeros(len(xy), CHANNELS, grid.side, grid.side)
    reach = _REACH * (0.5 * seen.covariance.diagonal(dim1=1, dim2=2).sum(1)).sqrt()
    around = 0.5 * (_TILE + grid.side * grid.cell_px)
    tiles, tile_of = (xy / _TILE).floor().unique(dim=0, return_inverse=True)
    order, counts = tile_of.argsort(stable=True), tile_of.bincount(minlength=len(tiles)).tolist()
    for tile, anchors in zip(tiles, order.split(counts)):
        off = (seen.xy - (tile + 0.5) * _TILE).abs().amax(1) - reach
        near = (off < around).nonzero()[:, 0]
        if len(near):
            drawn[anchors] = _draw_block(seen.select(near), reach[near], xy[anchors], z[anchors], grid)
    return drawn


def _draw_block(seen: Projected, reach: Tensor, xy: Tensor, z: Tensor, grid: Grid) -> Tensor:
    """The same for the anchors of one tile, and the Gaussians about it."""
    distance = torch.cdist(xy, seen.xy) - reach
    other = (seen.z[None] - z[:, None]).abs() > _SAME_SURFACE * z[:, None]
    distance = torch.where(other, torch.inf, distance)
    found = distance.topk(min(grid.neighbours, len(seen.z)), dim=1, largest=False, sorted=False)
    chosen, order = found.indices.sort(1)  # nearest to the camera first
    opacity = seen.opacity[chosen] * found.values.gather(1, order).isfinite()
    inverse, gain = _averaged(seen.covariance[chosen], grid.cell_px)
    offset = seen.xy[chosen] - xy[:, None]
    alpha = _quadratic(inverse, offset, (opacity * gain).log()) @ _powers(grid.centres().to(xy))
    weight = alpha.clamp_(min=_MIN_POWER).exp_().clamp_(max=_MAX_ALPHA)
    left = torch.ones_like(weight[:, 0])
    for step in weight.unbind(1):  # a third of the time of a cumulative product
        step.mul_(left)
        left.sub_(step)
    depth = (seen.z[chosen] - z[:, None]) / z[:, None]
    values = torch.stack([seen.grey[chosen], torch.ones_like(depth), depth], 1)
    return (values @ weight).unflatten(2, (grid.side, grid.side))


def _powers(x: Tensor) -> Tensor:
    """Points [C, 2] -> [6, C], by which rows of `_quadratic` are multiplied."""
    u, v = x.unbind(1)
    return torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v])


def _quadratic(inverse: Tensor, offset: Tensor, constant: Tensor) -> Tensor:
    """Coefficients [..., 6] of constant - 1/2 (x - offset)^T inverse (x - offset) as a polynomial in x."""
    a, b, c = inverse[..., 0, 0], inverse[..., 0, 1], inverse[..., 1, 1]
    u, v = (inverse @ offset[..., None])[..., 0].unbind(-1)
    free = constant - 0.5 * (offset[..., 0] * u + offset[..., 1] * v)
    return torch.stack([free, u, v, -0.5 * a, -b, -0.5 * c], -1)


def _averaged(covariance: Tensor, cell_px: float) -> tuple[Tensor, Tensor]:
    """Inverse covariances of Gaussians averaged over a cell, and the factor of their opacity."""
    wide = covariance + cell_px**2 / 12 * torch.eye(2).to(covariance)
    before, after = determinant(covariance), determinant(wide)
    a, b, c = wide[..., 0, 0], wide[..., 0, 1], wide[..., 1, 1]
    inverse = torch.stack([c, -b, -b, a], -1).unflatten(-1, (2, 2)) / after[..., None, None]
    return inverse, (before.clamp(min=0) / after).sqrt()


def draw_all(seen: Projected, xy: Tensor, z: Tensor, grids: Sequence[Grid]) -> Tensor:
    """`draw` on several grids of one side: [A, grids, 3, side, side]."""
    return torch.stack([draw(merged(seen, grid.cell_px), xy, z, grid) for grid in grids], 1)
