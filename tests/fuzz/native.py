"""Hostile calls of the native module: tensors of wrong sizes and types, NaN, negative counts and threads.

A call returns, or raises TypeError, ValueError, RuntimeError or MemoryError; the process must not die.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gsplatloc_kernels as kernels
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc_kernels import _core
from gsplatloc_kernels.alignment import AlignmentBlock, normal_equations
from gsplatloc_kernels.matching import nearest, nearest_within
from tests.rasterizer.support import CAMERA, make_inputs

WHOLE = [-1, 0, 1, 2, 3, 7, 64, 1025, 2**31 - 1, 2**31, 2**40, -(2**31)]
NUMBERS: list[Any] = [*WHOLE, 0.5, float("nan"), float("inf"), None, "1"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.int32, torch.uint8, torch.bool]
SETTINGS = {"width": CAMERA.width, "height": CAMERA.height, "fx": 50.0, "fy": 61.0, "cx": 27.3, "cy": 14.2}


def build(root: Path) -> None:
    (root / "choices").write_bytes(bytes(4096))  # mutated: the seed of a call


def call(root: Path) -> None:
    path = root / "choices"
    chance = random.Random(path.read_bytes() if path.is_file() else b"")
    try:
        chance.choice([rasterize, match, photometric, adam, align, direct, direct])(chance)
    except (TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise GSplatLocError(str(error)[:100]) from None


def damaged(chance: random.Random, tensor: Any) -> Any:
    """A tensor of another shape, type or layout, or with odd values."""
    change: list[Callable[[], Any]] = [
        lambda: tensor[: chance.randrange(len(tensor) + 1)],
        lambda: tensor[..., None],
        lambda: tensor.flatten()[:-1],
        lambda: tensor.to(chance.choice(DTYPES)),
        lambda: tensor.new_full(tensor.shape, chance.choice([float("nan"), float("inf"), -1e38, 0, 1e-40])),
        lambda: tensor.new_zeros(0),
        lambda: torch.zeros(1, dtype=tensor.dtype).expand(tensor.shape),
        lambda: tensor.to("meta"),
        lambda: tensor.to_sparse(),
        lambda: None,
        lambda: tensor.repeat(2, *[1] * (tensor.ndim - 1)),
        lambda: tensor.t() if tensor.ndim == 2 else tensor,
    ]
    return chance.choice(change)() if chance.random() < 0.3 else tensor


def swapped(chance: random.Random, tensors: list[Any]) -> None:
    """Another tensor in the memory of one, as an assignment to `.data` does."""
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor) and chance.random() < 0.3:
            tensor.data = tensor.data.flatten()[: chance.choice([0, 1, 5])].clone()


def rasterize(chance: random.Random) -> None:
    inputs: dict[str, Any] = make_inputs(20, seed=1, dtype=chance.choice([torch.float32, torch.float64]))
    if chance.random() < 0.5:
        inputs = {name: damaged(chance, tensor) for name, tensor in inputs.items()}
    options = SETTINGS | {"sh_degree": 3, "feature_width": 9, "feature_height": 7}
    options["features_move_geometry"] = chance.random() < 0.5
    for name in ("threads", "max_intersections", "sh_degree", "width", "feature_height", "near"):
        if chance.random() < 0.1:
            options[name] = chance.choice(NUMBERS)
    leaves = {name: t.detach().requires_grad_() if t is not None else None for name, t in inputs.items()}
    result = kernels.rasterize(**leaves, settings=kernels.RasterizerSettings(**options))
    if chance.random() < 0.5:
        swapped(chance, list(leaves.values()))
    outputs = [image for image in (result.rgb, result.features, result.depth) if image is not None]
    sum(image.sum() for image in outputs).backward()


def photometric(chance: random.Random) -> None:
    images = [damaged(chance, torch.rand(3, 20, 30)) for _ in range(2)]
    kernels.photometric_loss(*images, chance.choice([0.2, float("nan")]), threads=chance.choice(NUMBERS))


def adam(chance: random.Random) -> None:
    tensors = [damaged(chance, torch.rand(40, 3)) for _ in range(4)]
    visible = chance.choice([None, damaged(chance, torch.ones(40, dtype=torch.bool))])
    parameter = kernels.AdamParameter(*tensors, 0.1, chance.choice(NUMBERS), visible)
    kernels.adam_step([parameter], threads=chance.choice(NUMBERS))


def align(chance: random.Random) -> None:
    kind = chance.choice(["photometric", "inverse_depth", "features", "x"])
    channels = (16,) if kind == "features" else ()
    reference = torch.rand(0) if kind == "inverse_depth" else torch.rand(50, *channels)
    tensors = [torch.rand(3, 50), reference, torch.rand(12, 14, *channels)]
    block = AlignmentBlock(kind, *(damaged(chance, t) for t in tensors), (9.0, 9.0, 7.0, 6.0))  # type: ignore[arg-type]
    swapped(chance, [block.points, block.reference, block.image])
    normal_equations(block, damaged(chance, torch.eye(4)), 0.1, threads=chance.choice([None, *NUMBERS]))


def match(chance: random.Random) -> None:
    a, b = (damaged(chance, torch.rand(rows, 5)) for rows in (30, 40))
    if chance.random() < 0.5:
        nearest(a, b, chance.choice(NUMBERS))
        return
    xy_a, xy_b = (damaged(chance, torch.rand(rows, 2) * 50) for rows in (30, 20))
    rows = damaged(chance, torch.randint(0, 40, (20,)) + chance.choice([0, 0, -1, 2**40]))
    nearest_within(xy_a, a, xy_b, b, rows, chance.choice([5.0, 1e30, *NUMBERS]), chance.choice(NUMBERS))


def direct(chance: random.Random) -> None:
    """The compiled functions themselves, whose callers check less."""
    if chance.random() < 0.3:
        images = [damaged(chance, torch.rand(3, 20, 30)) for _ in range(3)]
        _core.photometric_float32(*images, 0.2, chance.choice(NUMBERS))
        return
    inputs: dict[str, Any] = make_inputs(20, seed=1, dtype=torch.float32)
    settings: dict[str, Any] = SETTINGS | {
        "feature_width": 9,
        "feature_height": 7,
        "near": 0.01,
        "low_pass": 0.3,
        "antialiased": False,
        "sh_degree": 3,
        "sh_bases": 16,
        "channels": 3,
        "count": 20,
        "threads": 1,
        "background": (0.0, 0.0, 0.0),
        "features_move_geometry": False,
        "differentiable": True,
        "max_intersections": 1 << 20,
    }
    pixels = torch.empty(3, CAMERA.height, CAMERA.width)
    outputs = {
        "rgb": pixels,
        "depth": pixels[0],
        "alpha": pixels[1].clone(),
        "features": torch.empty(3, 7, 9),
        "radii": torch.empty(20, dtype=torch.int32),
    }
    harmed = chance.choice([inputs, outputs, settings])
    name = chance.choice(sorted(harmed))
    harmed[name] = chance.choice(NUMBERS) if harmed is settings else damaged(chance, harmed[name])
    state = _core.forward_float32(settings, inputs, outputs)
    settings[name] = settings.get(name, 1) if harmed is not settings else chance.choice(NUMBERS)
    gradients = {key: torch.zeros_like(tensor) for key, tensor in inputs.items() if key != "cam_from_world"}
    gradients = {key: damaged(chance, tensor) for key, tensor in gradients.items()}
    _core.backward(state, settings, inputs, outputs, {"rgb": damaged(chance, pixels)}, gradients, True)
