"""Normal equations of image alignment: a reference image with depth against a query image, at a pose.

Samples of the reference, as points in its camera, are moved by `query_from_reference`, projected into the
query and compared there. The unknowns are (rho, phi), a left perturbation of the pose, then gain and bias of
the exposure. Residuals are weighted by Geman and McClure's robust cost 2 s / (1 + s), s = r^2 / (4 sigma^2);
a sample out of view costs 2, as an outlier does. The Jacobian is never stored.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gsplatloc_kernels import _core
from gsplatloc_kernels.checks import thread_count

UNKNOWNS = 8
FEATURE_STEP = 16  # descriptors come in multiples of so many channels: pad them with zeros
_TRIANGLE = UNKNOWNS * (UNKNOWNS + 1) // 2
_KINDS = ("photometric", "inverse_depth", "features")
_ROW, _COLUMN = torch.triu_indices(UNKNOWNS, UNKNOWNS)
_PLACE = torch.zeros(UNKNOWNS, UNKNOWNS, dtype=torch.int64)  # in the triangle, of each element
_PLACE[_ROW, _COLUMN] = _PLACE[_COLUMN, _ROW] = torch.arange(_TRIANGLE)

Kind = Literal["photometric", "inverse_depth", "features"]


@dataclass(frozen=True)
class AlignmentBlock:
    """Residuals of one kind. All tensors are contiguous, on the CPU and of one dtype, float32 or float64.

    photometric: I(u) - gain reference - bias. inverse_depth: D(u) - 1 / z, D = 0 where unknown; `reference`
    is empty. features: F(u) - reference, whose square is summed over the channels.
    """

    kind: Kind
    points: Tensor  # [3, P] in the reference camera
    reference: Tensor  # [P] grey values, or [P, C] descriptors
    image: Tensor  # [H, W] grey values or inverse depth, or [H, W, C] descriptors
    intrinsics: tuple[float, float, float, float]  # fx, fy, cx, cy in pixels of `image`, corner = (0, 0)
    # [2, P] image gradient of the reference per pixel of `image`, averaged with that of `image`, as in ESM
    reference_gradient: Tensor | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class NormalEquations:
    """The quadratic model of the robust cost at a pose: cost + gradient d + d hessian d / 2."""

    hessian: Tensor  # [8, 8] float64, J^T W J; zero for unknowns that the residuals do not depend on
    gradient: Tensor  # [8] float64, J^T W r
    cost: float
    seen: int  # samples in view of the query


def normal_equations(
    block: AlignmentBlock,
    query_from_reference: Tensor,
    sigma: float,
    exposure: tuple[float, float] = (1.0, 0.0),
    residuals: Tensor | None = None,
    threads: int | None = None,
) -> NormalEquations:
    """Sum `block` at a pose [4, 4] and an exposure (gain, bias), for inliers of standard deviation `sigma`.

    `residuals` [P] is filled where given: of descriptors their norm, NaN for samples out of view. The result
    does not depend on `threads` (None = torch's). Raises TypeError and ValueError for what does not fit.
    """
    numbers = _numbers(block, query_from_reference, sigma, exposure)
    if residuals is not None:
        _check_array("residuals", residuals, block.points, (block.points.shape[1],))
    single = block.points.dtype == torch.float32
    run = _core.normal_equations_float32 if single else _core.normal_equations_float64
    sums = run(
        _KINDS.index(block.kind), block.points, block.reference, block.image, numbers,
        block.reference_gradient, residuals, thread_count(threads),
    )  # fmt: skip
    return _unpacked(torch.tensor(sums, dtype=torch.float64))


def group_equations(
    block: AlignmentBlock,
    query_from_reference: Tensor,
    sigma: float,
    exposure: tuple[float, float],
    begin: Tensor,
) -> tuple[Tensor, Tensor]:
    """J^T W J [K, 8, 8] and J^T W r [K, 8] float64 of K groups of samples, as of `normal_equations`.

    Group k are the samples begin[k] to begin[k + 1] (exclusive) of `begin` [K + 1] int64, ascending. Raises
    TypeError and ValueError for what does not fit.
    """
    numbers = _numbers(block, query_from_reference, sigma, exposure)
    if not isinstance(begin, Tensor) or begin.dtype is not torch.int64 or begin.ndim != 1 or not len(begin):
        raise TypeError("expected where each group begins as a torch.Tensor [K + 1] of int64")
    sums = torch.empty(len(begin) - 1, _TRIANGLE + UNKNOWNS + 2, dtype=torch.float64)
    single = block.points.dtype == torch.float32
    run = _core.group_equations_float32 if single else _core.group_equations_float64
    run(
        _KINDS.index(block.kind), block.points, block.reference, block.image, numbers,
        block.reference_gradient, begin.cpu().contiguous(), sums,
    )  # fmt: skip
    return sums[:, _PLACE], sums[:, _TRIANGLE : _TRIANGLE + UNKNOWNS]


def _numbers(
    block: AlignmentBlock, query_from_reference: Tensor, sigma: float, exposure: tuple[float, float]
) -> list[float]:
    """Intrinsics, pose, exposure and sigma as native code takes them; checks them and the block."""
    _check(block)  # again: its tensors may have been resized since
    if not isinstance(query_from_reference, Tensor):
        found = type(query_from_reference).__name__
        raise TypeError(f"expected a pose to be a torch.Tensor, found {found}")
    if query_from_reference.shape != (4, 4):
        raise ValueError(f"expected a pose of shape [4, 4], found {list(query_from_reference.shape)}")
    pose = query_from_reference.double().cpu()[:3].flatten().tolist()
    numbers = [*block.intrinsics, *pose, *exposure, sigma]
    if not (sigma > 0 and all(math.isfinite(number) for number in numbers)):
        raise ValueError("expected finite numbers and a positive sigma, found NaN, infinity or none above 0")
    return numbers


def _unpacked(sums: Tensor) -> NormalEquations:
    cost, seen = sums[_TRIANGLE + UNKNOWNS :].tolist()
    return NormalEquations(sums[_PLACE], sums[_TRIANGLE : _TRIANGLE + UNKNOWNS], cost, int(seen))


def _check(block: AlignmentBlock) -> None:
    """Raise TypeError or ValueError for arrays that could crash native code."""
    if block.kind not in _KINDS:
        raise ValueError(f"expected a kind among {', '.join(_KINDS)}, found {block.kind!r}")
    for name in ("points", "reference", "image"):
        if not isinstance(getattr(block, name), Tensor):
            raise TypeError(
                f"expected {name} to be a torch.Tensor, found {type(getattr(block, name)).__name__}"
            )
    if block.points.ndim != 2 or block.points.shape[0] != 3:
        raise ValueError(f"expected points of shape [3, P], found {list(block.points.shape)}")
    dimensions = 3 if block.kind == "features" else 2
    if block.image.ndim != dimensions or min(block.image.shape) < 1 or block.image.numel() >= 1 << 31:
        raise ValueError(f"expected an image of {dimensions} dimensions, found {list(block.image.shape)}")
    channels = block.image.shape[2:]
    if channels and channels[0] % FEATURE_STEP:
        raise ValueError(f"expected a multiple of {FEATURE_STEP} channels, found {channels[0]}: pad them")
    _check_array("points", block.points, block.points, tuple(block.points.shape))
    _check_array("image", block.image, block.points, tuple(block.image.shape))
    reference = (0,) if block.kind == "inverse_depth" else (block.points.shape[1], *channels)
    _check_array("reference", block.reference, block.points, reference)
    if block.reference_gradient is not None:
        _check_array("reference_gradient", block.reference_gradient, block.points, (2, block.points.shape[1]))


def _check_array(name: str, array: Tensor, like: Tensor, shape: tuple[int, ...]) -> None:
    if array.device.type != "cpu":
        raise ValueError(f"expected {name} on the CPU, found {array.device}: move it with .cpu()")
    if array.dtype not in (torch.float32, torch.float64) or array.dtype != like.dtype:
        raise TypeError(f"expected {name} in the points' dtype, {like.dtype}, found {array.dtype}")
    if tuple(array.shape) != shape or not array.is_contiguous():
        raise ValueError(f"expected contiguous {name} of shape {list(shape)}, found {list(array.shape)}")
