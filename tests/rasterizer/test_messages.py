"""Every error of the native module says what was expected, what was found and what to do, in one line.

Python checks arguments first: the module is called directly here, as another caller would.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from gsplatloc_kernels import _core

NATIVE = Path(__file__).parents[2] / "submodules" / "diff-gaussian-rasterization"
PARTS = re.compile(r"expected .+, found .+: .+")


def expect(error: type[Exception], call: Callable[[], object], *parts: str) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert PARTS.fullmatch(message), message  # `.` matches no line break
    for part in parts:
        assert part in message


def normal_equations(**changes: Any) -> object:
    """A photometric block of 5 points, and the changes."""
    arguments: dict[str, Any] = {
        "residual": 0, "points": torch.rand(3, 5), "reference": torch.rand(5), "image": torch.rand(4, 6),
        "numbers": [1.0] * 19, "reference_gradient": None, "residuals": None, "threads": 1,
    }  # fmt: skip
    return _core.normal_equations_float32(**(arguments | changes))


@pytest.mark.parametrize(
    "changes,expected,found",
    [
        ({"points": torch.rand(2, 5)}, "points of shape [3, P]", "[2, 5]"),
        ({"image": torch.rand(6)}, "an image of shape [H, W]", "[6]"),
        ({"image": torch.rand(0, 6)}, "an image of shape [H, W]", "[0, 6]"),
        ({"residual": 3}, "a kind of residual from 0 to 2", "3"),
        ({"residual": 2, "image": torch.rand(4, 6, 7)}, "a multiple of 16 channels", "7"),
        ({"reference": torch.rand(4)}, "5 numbers of the reference", "4"),
        ({"residual": 1}, "0 numbers of the reference", "5"),
        ({"reference_gradient": torch.rand(2, 4)}, "a reference_gradient of shape [2, 5]", "[2, 4]"),
        ({"residuals": torch.rand(6)}, "residuals of shape [5]", "[6]"),
    ],
)
def test_alignment(changes: dict[str, Any], expected: str, found: str) -> None:
    expect(ValueError, lambda: normal_equations(**changes), expected, f"found {found}")


@pytest.mark.parametrize(
    "begin,rows,expected,found",
    [
        ([], 0, "where each group of the points begins", "no number"),
        ([0, 3, 2], 2, "in ascending order", "3 before 2"),
        ([-1, 2], 1, "groups among 5 points", "points -1 to 2"),
        ([0, 6], 1, "groups among 5 points", "points 0 to 6"),
        ([0, 5], 2, "sums of shape [1, 46]", "[2, 46]"),
    ],
)
def test_groups(begin: list[int], rows: int, expected: str, found: str) -> None:
    def call() -> None:
        _core.group_equations_float32(
            0, torch.rand(3, 5), torch.rand(5), torch.rand(4, 6), [1.0] * 19, None,
            torch.tensor(begin, dtype=torch.int64), torch.empty(rows, 46, dtype=torch.float64),
        )  # fmt: skip

    expect(ValueError, call, expected, f"found {found}")


def nearest_within(**changes: Any) -> object:
    """3 points against 4, and the changes."""
    a: dict[str, Any] = {"xy_a": torch.rand(3, 2), "a": torch.rand(3, 8), "xy_b": torch.rand(4, 2)}
    a |= {"b": torch.rand(5, 8), "rows_b": torch.arange(4), "radius": 1.0, "threads": 1}
    for side, rows in (("a", 3), ("b", 4)):
        a |= {f"value_{side}": torch.empty(rows), f"index_{side}": torch.empty(rows, dtype=torch.int64)}
    return _core.nearest_within(**(a | changes))


@pytest.mark.parametrize(
    "changes,expected,found",
    [
        ({"a": torch.rand(3)}, "a of shape [*, *]", "[3]"),
        ({"b": torch.rand(5, 7)}, "b of shape [*, 8]", "[5, 7]"),
        ({"xy_a": torch.rand(2, 2)}, "xy_a of shape [3, 2]", "[2, 2]"),
        ({"xy_b": torch.rand(4, 3)}, "xy_b of shape [*, 2]", "[4, 3]"),
        ({"rows_b": torch.arange(3)}, "rows_b of 4 numbers", "[3]"),
        ({"rows_b": torch.tensor([0, 1, 2, 5])}, "rows_b from 0 to 4", "5"),
        ({"value_a": torch.empty(2)}, "similarities of 3 numbers", "[2]"),
        ({"index_b": torch.empty(5, dtype=torch.int64)}, "indices of 4 numbers", "[5]"),
        ({"radius": -1.0}, "a finite radius above 0", "-1"),
        ({"radius": float("nan")}, "a finite radius above 0", "nan"),
        ({"a": torch.rand(3, 0), "b": torch.rand(5, 0)}, "a that is not empty", "[3, 0]"),
        ({"xy_a": torch.tensor([[0.0, 1], [2, torch.inf], [0, 0]])}, "finite points", "inf in row 1"),
        ({"xy_a": torch.tensor([[0.0, -3e38], [0, 3e38], [0, 0]])}, "points of one image", "(0, -3e+38)"),
    ],
)
def test_matching(changes: dict[str, Any], expected: str, found: str) -> None:
    expect(ValueError, lambda: nearest_within(**changes), expected, found)


def test_matching_with_too_many_rows() -> None:
    many = torch.empty(1 << 24, 1)
    one, index = torch.empty(1), torch.empty(1, dtype=torch.int64)
    expect(
        ValueError,
        lambda: _core.nearest(many, torch.rand(1, 1), one, index, one, index, 1),
        "a with fewer than 16777216 rows, found 16777216",
    )


def adam(value: torch.Tensor, *others: torch.Tensor) -> None:
    gradient, mean, square, visible = others
    _core.adam_float32([(value, gradient, mean, square, visible, 0.1, 1)], 0.9, 0.999, 1e-8, 1)


def test_adam() -> None:
    good, mask = torch.rand(4, 3), torch.ones(4, dtype=torch.uint8)
    flat = torch.rand(12)
    expect(ValueError, lambda: adam(flat, good, good, good, mask), "shape [N, D]", "found [12]")
    for k, name in enumerate(["gradient", "mean of gradients", "mean of squares"]):
        others = [good[:3] if i == k else good for i in range(3)]
        expect(ValueError, partial(adam, good, *others, mask), f"12 numbers in the {name}, found 9")
    expect(ValueError, lambda: adam(good, good, good, good, mask[:2]), "4 numbers in the mask, found 2")


def test_photometric() -> None:
    image = torch.rand(3, 16, 16)
    run = _core.photometric_float32
    expect(ValueError, lambda: run(image, image[:, 1:].clone(), None, 0.2, 1), "[3, 16, 16] and [3, 15, 16]")
    expect(ValueError, lambda: run(image, image, torch.empty(3, 16, 1), 0.2, 1), "768 numbers", "found 48")


SETTINGS: dict[str, Any] = {
    "width": 8, "height": 6, "fx": 9.0, "fy": 9.0, "cx": 4.0, "cy": 3.0, "near": 0.01, "low_pass": 0.3,
    "antialiased": False, "count": 2, "sh_bases": 0, "sh_degree": 0, "channels": 0, "feature_width": 8,
    "feature_height": 6, "background": (0.0, 0.0, 0.0), "features_move_geometry": False,
    "differentiable": False, "threads": 1, "max_intersections": 1 << 30,
}  # fmt: skip


def arrays() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Two Gaussians in front of the camera, and room for the images."""
    inputs = {
        "means": torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 1.0]]), "quaternions": torch.rand(2, 4),
        "scales": torch.full((2, 3), 0.1), "opacities": torch.full((2,), 0.5), "colors": torch.rand(2, 3),
        "cam_from_world": torch.eye(4),
    }  # fmt: skip
    outputs = {"rgb": torch.empty(3, 6, 8), "depth": torch.empty(6, 8), "alpha": torch.empty(6, 8)}
    return inputs, outputs | {"radii": torch.empty(2, dtype=torch.int32)}


def forward(
    settings: dict[str, Any], changes: dict[str, Any] | None = None, without: tuple[str, ...] = ()
) -> Any:
    inputs, outputs = arrays()
    inputs |= changes or {}
    for name in without:
        inputs.pop(name, None)
        outputs.pop(name, None)
    return _core.forward_float32(SETTINGS | settings, inputs, outputs)


@pytest.mark.parametrize(
    "settings,expected,found",
    [
        ({"width": 0}, "width from 1 to 268435456", "0"),
        ({"count": -1}, "count from 0 to 2147483647", "-1"),
        ({"sh_degree": 4}, "sh_degree from 0 to 3", "4"),
        ({"width": 1 << 20, "height": 1 << 20}, "at most 268435456 pixels", "1099511627776 of the image"),
        ({"background": (0.0, 1.0)}, "a background of 3 numbers", "2"),
    ],
)
def test_settings(settings: dict[str, Any], expected: str, found: str) -> None:
    expect(ValueError, lambda: forward(settings), expected, f"found {found}")


def test_arrays_of_a_rendering() -> None:
    expect(ValueError, lambda: forward({}, {"scales": torch.rand(2, 2)}), "6 numbers of scales", "found 4")
    gaussians = "means, opacities, shapes and colours"
    for name, expected in {
        "cam_from_world": "cam_from_world", "means": gaussians, "colors": gaussians, "rgb": "images",
        "radii": "radii and features",
    }.items():  # fmt: skip
        call = partial(forward, {}, without=(name,))
        expect(ValueError, call, f"expected {expected}, found none", "add the missing arrays")
    invalid = torch.tensor([[0.0, 0.0, 1.0], [0.0, torch.nan, 1.0]])
    expect(ValueError, lambda: forward({}, {"means": invalid}), "finite parameters", "in Gaussian 1")
    features = {"features": invalid}
    image = torch.empty(3, 6, 8)
    inputs, outputs = arrays()
    settings = SETTINGS | {"channels": 3}
    call = partial(_core.forward_float32, settings, inputs | features, outputs | {"features": image})
    expect(ValueError, call, "finite features")


def test_a_backward_pass_of_another_forward_pass() -> None:
    def backward(state: Any, **changes: Any) -> Callable[[], None]:
        inputs, outputs = arrays()
        return lambda: _core.backward(state, SETTINGS | changes, inputs, outputs, {}, {}, True)

    expect(ValueError, backward(forward({})), "a differentiable forward pass")
    other = backward(forward({"differentiable": True}), height=5)
    expect(ValueError, other, "2 Gaussians, 48 pixels and 48 of features", "found 2 Gaussians, 40 pixels")


@pytest.mark.parametrize("name", ["sse9", "avx1024"])
def test_an_unknown_instruction_set(name: str) -> None:
    code = "import torch, gsplatloc_kernels; print(gsplatloc_kernels.isa())"
    environment = os.environ | {"GSPLAT_ISA": name}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    line = run.stderr.splitlines()[-1]
    assert PARTS.search(line) and f"found {name}: correct it" in line


PRINT_THE_ERROR = """
#include <cstdio>
#include <exception>
namespace splat { const char* isa_name(); }
int main() try { splat::isa_name(); } catch (const std::exception& error) { std::puts(error.what()); }
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_an_instruction_set_that_the_build_lacks(tmp_path: Path, name: str) -> None:
    """The choice as it is built for another processor, without the kernels, which it does not call."""
    (tmp_path / "main.cpp").write_text(PRINT_THE_ERROR)
    folders = [f"-I{NATIVE / folder}" for folder in ("include", "src", "src/cpu")]
    sources = [str(tmp_path / "main.cpp"), str(NATIVE / "src" / "cpu" / "dispatch.cpp")]
    program = str(tmp_path / "program")
    options = ["-std=c++20", "-no-pie", "-Wl,--unresolved-symbols=ignore-all", "-o", program]
    subprocess.run(["g++", *folders, *sources, *options], check=True)
    environment = os.environ | {"GSPLAT_ISA": name}
    run = subprocess.run([program], capture_output=True, text=True, check=True, env=environment)
    line = run.stdout.strip()
    assert PARTS.fullmatch(line) and f"a set of this processor and build, found {name}: unset it" in line
