"""Folders whose names are not UTF-8, as old archives and disks have them: libraries refuse them, or crash."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.datasets.photos import collect
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.scene.formats import read_splat, write_splat
from gsplatloc.utils.tensors import stored_tensors, write_tensors
from gsplatloc.visualization.rendering import Film
from tests.fuzz import seeds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / os.fsdecode(b"K\xfcche")
    try:
        path.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    return path


def test_tensors_are_read(folder: Path) -> None:
    write_tensors(folder / "a.safetensors", {"a": torch.ones(2)})
    with stored_tensors(folder / "a.safetensors", "tensors", "write them again") as (tensors, _):
        assert tensors["a"].tolist() == [1, 1]


def test_cached_features_are_read(folder: Path) -> None:
    seeds.feature_cache(folder)
    view = seeds.views(folder)[0]
    (entry,) = folder.glob("*.safetensors")
    written = entry.stat().st_mtime_ns
    keypoints = FeatureCache(folder, seeds.Extractor()).load_keypoints(view)
    assert keypoints.xy.tolist() == [[1, 1]] * 3
    assert entry.stat().st_mtime_ns == written, "the entry was read, not written again"


@pytest.mark.parametrize("suffix", [".ply", ".spz", ".sog", ".splat", ".ksplat", ".glb", ".small"])
def test_splats_are_read(folder: Path, suffix: str) -> None:
    write_splat(folder / f"a{suffix}", seeds.gaussians())
    assert len(read_splat(folder / f"a{suffix}")) == len(seeds.gaussians())


def test_a_film_is_written_and_its_frames_are_read(folder: Path) -> None:
    with Film(folder / "film.mp4", 10) as film:
        for number in range(6):
            film.add(np.full((64, 96, 3), 40 * number, np.uint8))
    assert collect(folder / "film.mp4", folder / "frames", 3, 96, quiet=True) == 3
