"""Nearest neighbours among descriptors on the CPU: only the maxima of the inner products are kept."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gsplatloc_kernels import _core
from gsplatloc_kernels.checks import thread_count

MAX_ROWS = 1 << 24  # of descriptors


@dataclass(frozen=True)
class Nearest:
    """The most similar row of the other side, for each row of a side; of equally similar ones the first."""

    similarity: Tensor  # [N] float32 inner product, -infinity where nothing was compared
    index: Tensor  # [N] int64


def nearest(a: Tensor, b: Tensor, threads: int | None = None) -> tuple[Nearest, Nearest]:
    """For the rows of a [N, D] those of b [M, D], and for the rows of b those of a; N, M, D > 0.

    Both contiguous, in float32 and on the CPU. The result does not depend on `threads` (None = torch's).
    Raises TypeError and ValueError for what does not fit.
    """
    _check("a", a, (None, None))
    _check("b", b, (None, a.shape[1]))
    of_a, of_b = _empty(len(a)), _empty(len(b))
    _core.nearest(a, b, of_a.similarity, of_a.index, of_b.similarity, of_b.index, thread_count(threads))
    return of_a, of_b


def nearest_within(
    xy_a: Tensor,
    a: Tensor,
    xy_b: Tensor,
    b: Tensor,
    rows_b: Tensor,
    radius: float,
    threads: int | None = None,
) -> tuple[Nearest, Nearest]:
    """Likewise among points of an image that are closer than `radius` pixels.

    Points `xy_a` [N, 2] have descriptors a [N, D], N > 0; points `xy_b` [K, 2] have the rows `rows_b` [K]
    int64 of b [M, D]. Indices are into `xy_a` and `xy_b`. Points `xy_b` that are not finite, or further than
    1e6 pixels from the origin, are near none. Raises TypeError and ValueError for what does not fit.
    """
    _check("a", a, (None, None))
    _check("xy_a", xy_a, (len(a), 2))
    _check("b", b, (None, a.shape[1]))
    _check("xy_b", xy_b, (None, 2))
    _check("rows_b", rows_b, (len(xy_b),), torch.int64)
    of_a, of_b = _empty(len(a)), _empty(len(xy_b))
    _core.nearest_within(
        xy_a, a, xy_b, b, rows_b, radius,
        of_a.similarity, of_a.index, of_b.similarity, of_b.index, thread_count(threads),
    )  # fmt: skip
    return of_a, of_b


def _empty(size: int) -> Nearest:
    return Nearest(torch.empty(size), torch.empty(size, dtype=torch.int64))


def _check(
    name: str, tensor: Tensor, shape: tuple[int | None, ...], dtype: torch.dtype = torch.float32
) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"expected {name} to be a torch.Tensor, found {type(tensor).__name__}")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or not tensor.is_contiguous():
        raise ValueError(f"expected {name} to be contiguous and on the CPU")
    if tensor.dtype != dtype:
        raise TypeError(f"expected {name} of {dtype}, found {tensor.dtype}")
    if len(tensor.shape) != len(shape) or any(
        want not in (None, size) for size, want in zip(tensor.shape, shape, strict=False)
    ):
        raise ValueError(f"expected {name} of shape {list(shape)}, found {list(tensor.shape)}")
    if len(tensor) >= MAX_ROWS:
        raise ValueError(f"expected {name} with fewer than {MAX_ROWS} rows, found {len(tensor)}")
