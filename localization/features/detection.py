"""Steps that extractors share: the image that a network sees, local maxima of a heat map, values in between.

Half-pixel traps. A network sees the image resized to multiples of its stride. The pixel with *index* i there
is centred at x = (i + 0.5) * W / W' in our convention (the first pixel is centred at 0.5).
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.utils.errors import GSplatLocError

_RADIUS = 2  # pixels; the suppression window is 5 x 5
_OTHERS = np.ones((2 * _RADIUS + 1,) * 2, np.uint8)  # of the window: all pixels but the one in its middle
_OTHERS[_RADIUS, _RADIUS] = 0
_SUM = np.ones((1, 3), np.float32)  # of the channels
_CUBIC = -0.75  # torch's choice of the free parameter of bicubic convolution
_MIN_CURVATURE = 1e-6  # of a heat map; flatter maxima stay at their pixel's centre


def check_image(image: np.ndarray) -> None:
    """Raise `GSplatLocError` unless `image` is [H, W, 3] uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise GSplatLocError(f"expected an image [H, W, 3] uint8, found {list(image.shape)} {image.dtype}")


def mean_of_channels(image: np.ndarray) -> Tensor:
    """The grey image [1, 1, H, W] in [0, 1] of an image [H, W, 3] uint8, by the mean of its channels."""
    total = cv2.transform(image.astype(np.float32), _SUM)  # exact; a tenth of the time of torch's mean
    return torch.from_numpy(total)[None, None] / 3 / 255


def check_top_k(top_k: int) -> None:
    """Raise `GSplatLocError` unless at least one keypoint is asked for."""
    if top_k < 1:
        raise GSplatLocError(f"expected at least one keypoint per image, found top_k = {top_k}")


def network_size(width: int, height: int, stride: int) -> tuple[int, int]:
    """(width, height) of the image that a network sees: rounded down to multiples of `stride`."""
    return max(stride, width // stride * stride), max(stride, height // stride * stride)


def resized(planes: Tensor, stride: int) -> Tensor:
    """Planes [1, C, H, W] at the size that a network sees."""
    height, width = planes.shape[2:]
    network_width, network_height = network_size(width, height, stride)
    if (network_width, network_height) == (width, height):
        return planes
    return F.interpolate(planes, (network_height, network_width), mode="bilinear", align_corners=False)


def local_maxima(heat: Tensor, minimum: float) -> Tensor:
    """Indices (x, y) [N, 2] of the pixels of heat [H, W] above `minimum` and all others of their window."""
    if heat.device.type != "cpu" or heat.dtype != torch.float32:
        return _local_maxima_of_tensor(heat, minimum)
    values = heat.numpy()
    peak = values > np.maximum(cv2.dilate(values, _OTHERS), np.float32(minimum))
    peak[:_RADIUS], peak[-_RADIUS:], peak[:, :_RADIUS], peak[:, -_RADIUS:] = False, False, False, False
    y, x = np.divmod(np.flatnonzero(peak), values.shape[1])
    return torch.from_numpy(np.stack([x, y], 1))


def _local_maxima_of_tensor(heat: Tensor, minimum: float) -> Tensor:
    """`local_maxima` in torch, for a GPU.

    Few pixels exceed `minimum` and their four neighbours: only these are compared with the rest.
    """
    center = heat[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    likely = center > minimum
    for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        likely &= center > _shifted(heat, down, right)
    y, x = likely.nonzero(as_tuple=True)
    row, column = y + _RADIUS, x + _RADIUS
    steps = torch.arange(-_RADIUS, _RADIUS + 1, device=heat.device)
    offsets = (steps[:, None] * heat.shape[1] + steps).flatten()
    place = row * heat.shape[1] + column
    window = heat.flatten()[place[:, None] + offsets]
    alone = (window >= heat[row, column][:, None]).sum(1) == 1
    return torch.stack([column[alone], row[alone]], 1)


def peak_offsets(heat: Tensor, index: Tensor, least: float | None = None) -> Tensor:
    """Offsets (x, y) [N, 2] in pixels of the peaks of heat [H, W] from local maxima at `index` [N, 2].

    With `least`, of the peaks of its logarithm; lower values are raised to `least` first.

    The vertex of the parabola through three neighbours along each axis, at most half a pixel away. Local
    maxima are never at the border, because the suppression window must fit.
    """
    width = heat.shape[1]
    around = torch.tensor([0, -1, 1, -width, width], device=heat.device)
    places = (index[:, 1] * width + index[:, 0]) + around[:, None]
    values = heat.flatten()[places]
    center, left, right, above, below = values if least is None else values.clamp(min=least).log()
    offsets = []
    for before, after in ((left, right), (above, below)):
        curvature = (before + after - 2 * center).clamp(max=-_MIN_CURVATURE)
        offsets.append((before - after) / (2 * curvature))
    return torch.stack(offsets, 1).clamp(-0.5, 0.5)


def sample_bilinear(maps: Tensor, xy: Tensor) -> Tensor:
    """Values [N, C] of maps [1, C, h, w] at `xy` [N, 2], in cells of the map, the first centred at 0.5."""
    size = torch.tensor([maps.shape[3], maps.shape[2]], device=maps.device)
    grid = (2 * xy / size - 1)[None, :, None]
    return F.grid_sample(maps, grid, mode="bilinear", align_corners=False)[0, :, :, 0].T


def sample_bicubic(maps: Tensor, xy: Tensor) -> Tensor:
    """Likewise by bicubic convolution (Keys 1981, a = -0.75), of maps [C, h, w]; zeros outside.

    As torch's `grid_sample`, in half of its time: the weighted sums of 16 cells are an embedding bag.
    """
    channels, height, width = maps.shape
    steps = torch.arange(-1, 3, device=maps.device)
    first = (xy - 0.5).floor()
    distance = ((xy - 0.5 - first)[:, :, None] - steps).abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    cells = first.long()[:, :, None] + steps  # [N, 2, 4]
    last = torch.tensor([[width - 1], [height - 1]], device=maps.device)
    inside = (cells >= 0) & (cells <= last)
    weights = torch.where(distance <= 1, near, far) * inside
    cells = cells.clamp(min=0).minimum(last)
    index = (cells[:, 1, :, None] * width + cells[:, 0, None]).flatten()
    products = (weights[:, 1, :, None] * weights[:, 0, None]).flatten()
    table = maps.permute(1, 2, 0).reshape(-1, channels)
    bags = torch.arange(0, len(index), len(steps) ** 2, device=maps.device)
    return F.embedding_bag(index, table, bags, mode="sum", per_sample_weights=products)


def _shifted(heat: Tensor, down: int, right: int) -> Tensor:
    """The values `down` and `right` of each pixel of heat [H, W] whose suppression window fits."""
    height, width = heat.shape
    return heat[_RADIUS + down : height - _RADIUS + down, _RADIUS + right : width - _RADIUS + right]
