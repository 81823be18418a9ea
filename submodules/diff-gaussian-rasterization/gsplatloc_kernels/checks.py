"""Checks of all arguments that could crash native code: errors state what was expected and what was found."""

import math
import operator
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gsplatloc_kernels.api import RasterizerSettings

MAX_PIXELS = 1 << 28  # of the image and of the feature map
MAX_GAUSSIANS = 1 << 31
MAX_THREADS = 1024
_CORES = os.cpu_count() or 1  # asked for once: the answer takes as long as a small kernel
MAX_INTERSECTIONS = 1 << 32  # their numbers have 32 bits
FEATURE_PRECISIONS = ("float32", "tf32")
# Sizes per Gaussian; None is free.
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "means": (3,),
    "quaternions": (4,),
    "scales": (3,),
    "covariances": (6,),
    "opacities": (),
    "sh": (None, 3),
    "colors": (3,),
    "features": (None,),
    "screen_offsets": (2,),
}


def check_settings(settings: "RasterizerSettings") -> None:
    """Raise TypeError or ValueError for a camera that cannot be rendered."""
    _check_integers(settings)
    background = _background(settings.background)
    sizes = {
        "width x height": (settings.width, settings.height),
        "feature_width x feature_height": (
            settings.feature_width or settings.width,
            settings.feature_height or settings.height,
        ),
    }
    for name, (width, height) in sizes.items():
        if width < 1 or height < 1 or width * height > MAX_PIXELS:
            raise ValueError(f"expected {name} of 1 to {MAX_PIXELS} pixels, found {width} x {height}")
    positive = {"fx": settings.fx, "fy": settings.fy, "near": settings.near, "low_pass": settings.low_pass}
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"expected a finite {name} > 0, found {value}")
    if not all(math.isfinite(value) for value in (settings.cx, settings.cy, *background)):
        raise ValueError("expected a finite principal point and background, found NaN or infinity")
    if not 0 <= settings.sh_degree <= 3:
        raise ValueError(f"expected sh_degree 0 to 3, found {settings.sh_degree}")
    most = MAX_INTERSECTIONS - 1
    for name in ("max_intersections", "intersection_capacity"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value <= most:
            raise ValueError(f"expected {name} from 0 to {most}, found {value}")
    if settings.feature_precision not in FEATURE_PRECISIONS:
        raise ValueError(
            f"expected a feature_precision among {', '.join(FEATURE_PRECISIONS)},"
            f" found {settings.feature_precision!r}"
        )
    thread_count(settings.threads)


def thread_count(threads: int | None) -> int:
    """The number of threads to use, None = torch's; raises TypeError or ValueError for no such number."""
    if threads is None:
        return min(torch.get_num_threads(), _CORES)
    try:
        number = operator.index(threads)
    except TypeError:
        raise TypeError(f"expected an integer number of threads, found {threads!r}") from None
    if not 1 <= number <= MAX_THREADS:
        raise ValueError(f"expected 1 to {MAX_THREADS} threads, found {number}")
    return number


def _check_integers(settings: "RasterizerSettings") -> None:
    sizes = ("width", "height", "feature_width", "feature_height")
    optional = ("feature_width", "feature_height", "threads", "intersection_capacity")
    for name in (*sizes, "sh_degree", "threads", "max_intersections", "intersection_capacity"):
        value = getattr(settings, name)
        if value is None and name in optional:
            continue
        try:
            operator.index(value)
        except TypeError:
            raise TypeError(f"expected an integer {name}, found {value!r}") from None


def _background(background: Sequence[float]) -> tuple[float, ...]:
    try:
        size = len(background)
        numbers = tuple(float(value) for value in background)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: rows of a tensor
        raise TypeError(f"expected a background of 3 numbers, found {background!r}") from None
    if size != 3:
        raise ValueError(f"expected a background of 3 numbers, found {size}")
    return numbers


def check_inputs(inputs: dict[str, Tensor | None], sh_degree: int) -> None:
    """Raise TypeError or ValueError for tensors that are missing, or of a wrong type, device or shape.

    Values are not read: on a GPU the host would wait for them.
    """
    means, pose, opacities = inputs["means"], inputs["cam_from_world"], inputs["opacities"]
    if means is None or pose is None or opacities is None:
        raise TypeError("expected means, opacities and cam_from_world, found None")
    _check_choices(inputs)
    for name, tensor in inputs.items():
        if tensor is not None:
            check_like(name, tensor, "means", means)
    if means.ndim != 2:
        raise ValueError(f"expected means of shape [N, 3], found {list(means.shape)}")
    for name, shape in _SHAPES.items():
        tensor = inputs[name]
        if tensor is not None:
            _check_shape(name, tensor, (means.shape[0], *shape))
    if pose.shape != (4, 4):
        raise ValueError(f"expected cam_from_world of shape [4, 4], found {list(pose.shape)}")
    if means.shape[0] >= MAX_GAUSSIANS:
        raise ValueError(f"expected fewer than {MAX_GAUSSIANS} Gaussians, found {means.shape[0]}")
    sh = inputs["sh"]
    if sh is not None and sh.shape[1] < (sh_degree + 1) ** 2:
        raise ValueError(f"expected sh with {(sh_degree + 1) ** 2} bases or more, found {sh.shape[1]}")


def check_values(inputs: dict[str, Tensor | None]) -> None:
    """Raise ValueError for NaN or infinity in the pose; the kernels check everything else."""
    pose = inputs["cam_from_world"]
    if pose is not None and not bool(torch.isfinite(pose).all()):
        raise ValueError(
            "expected a finite cam_from_world, found NaN or infinity: correct the pose, or lower its step"
        )


def _check_choices(inputs: dict[str, Tensor | None]) -> None:
    given = {name for name, tensor in inputs.items() if tensor is not None}
    if len(given & {"sh", "colors"}) != 1:
        raise TypeError("expected either sh or colors, found both or neither")
    if given & {"quaternions", "scales", "covariances"} not in ({"quaternions", "scales"}, {"covariances"}):
        raise TypeError("expected either quaternions and scales or covariances, found another combination")


def check_like(name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    """Raise TypeError or ValueError where a tensor is not of the type and on the device of the first one."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"expected {name} to be a torch.Tensor, found {type(tensor).__name__}")
    if tensor.device != first.device:
        raise ValueError(
            f"expected all tensors on one device, found {first_name} on {first.device} and {name} on"
            f" {tensor.device}: move one with .to()"
        )
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected {name} on the CPU or a CUDA device, found {tensor.device}")
    if tensor.device.type == "cuda" and tensor.dtype == torch.float64:
        raise TypeError(f"expected {name} in float32 on a GPU, found float64, which is for the CPU")
    if tensor.dtype not in (torch.float32, torch.float64) or tensor.dtype != first.dtype:
        raise TypeError(
            f"expected {name} in one dtype, float32 or float64 ({first_name}: {first.dtype}),"
            f" found {tensor.dtype}"
        )
    if tensor.layout != torch.strided:
        raise TypeError(f"expected {name} to be a dense tensor, found {tensor.layout}")


def _check_shape(name: str, tensor: Tensor, expected: tuple[int | None, ...]) -> None:
    fits = tensor.ndim == len(expected) and all(
        want is None or size == want for size, want in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        shape = ", ".join("*" if want is None else str(want) for want in expected)
        raise ValueError(f"expected {name} of shape [{shape}], found {list(tensor.shape)}")
