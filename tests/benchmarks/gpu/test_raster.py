"""Times of the rasterizer in a dry run on the CPU, and the work of feature splatting, counted by hand."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import raster
from benchmarks.gpu.raster import TILE, count_work
from gsplatloc.scene.cameras import Camera

CAMERA = Camera(4 * TILE, 2 * TILE, 64.0, 64.0, 2 * TILE, TILE)


def gaussians(means: list[list[float]], scale: float, opacity: float) -> dict[str, Tensor]:
    count = len(means)
    return {
        "means": torch.tensor(means),
        "quaternions": torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        "scales": torch.full((count, 3), scale),
        "opacities": torch.full((count,), opacity),
        "features": torch.zeros(count, 8),
        "cam_from_world": torch.eye(4),
    }


def test_a_gaussian_within_a_tile_is_one_pair() -> None:
    work = count_work(gaussians([[-0.125, -0.125, 1.0]], 0.01, 0.9), CAMERA)  # pixel (24, 8)
    assert (work.pairs, work.gaussians) == (1, 1)
    assert work.flops == 2 * TILE * TILE * 8
    assert work.bytes == 8 * 4 + 24 + 4 + 4 * 8 * CAMERA.width * CAMERA.height


def test_a_gaussian_on_a_corner_is_in_four_tiles() -> None:
    work = count_work(gaussians([[0.0, 0.0, 1.0]], 0.02, 0.9), CAMERA)  # pixel (32, 16)
    assert (work.pairs, work.gaussians) == (4, 1)


def test_what_cannot_be_seen_is_no_work() -> None:
    behind, faint = (
        count_work(gaussians([[0.0, 0.0, -1.0]], 0.02, 0.9), CAMERA),
        count_work(gaussians([[0.0, 0.0, 1.0]], 0.02, 0.001), CAMERA),
    )
    assert behind.pairs == faint.pairs == 0


def test_what_is_behind_an_opaque_wall_is_no_work() -> None:
    wall = [[0.0, 0.0, 1.0 + 0.01 * index] for index in range(32)]  # each covers all pixels
    hidden = [[0.0, 0.0, 2.0 + 0.01 * index] for index in range(200)]
    work = count_work(gaussians(wall + hidden, 5.0, 0.99), CAMERA)
    assert work.gaussians <= 32 and work.pairs <= 32 * 8


def test_rendering_is_timed_beside_its_roofline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(raster, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(raster, "_COPIED_BYTES", {"cpu": 1 << 20})
    words = f"--device cpu --scenes cube-500 --sizes 64x48 --repeats 1 --json {tmp_path / 'raster.json'}"
    monkeypatch.setattr(sys, "argv", ["raster", *words.split()])
    raster.main()
    (result,) = json.loads((tmp_path / "raster.json").read_text())["results"]
    assert result["scene"] == "cube-500" and result["size"] == "64x48"
    assert "rgb + 64 features, full size, forward" in result["feature_splatting"]
    assert all(row["ours"]["total_ms"] > 0 and row["peer"] is None for row in result["cases"].values())
