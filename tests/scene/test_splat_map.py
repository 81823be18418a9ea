"""Maps that read no more of their folder than is asked for."""

from pathlib import Path

import pytest
import torch

from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.errors import GSplatLocError
from tests.scene.maps import make_gaussians, write_old_map


def test_gaussians_are_read_without_descriptors(tmp_path: Path) -> None:
    ply = save_gaussians(tmp_path, 7, make_gaussians())
    splat_map = SplatMap(tmp_path)
    assert splat_map.bytes_read() == 0
    assert splat_map.gaussians.features.shape == (5, 0)
    assert splat_map.bytes_read() == ply.stat().st_size


def test_descriptors_are_added_when_asked_for(tmp_path: Path) -> None:
    ply = save_gaussians(tmp_path, 7, gaussians := make_gaussians())
    splat_map = SplatMap(tmp_path)
    assert torch.equal(splat_map.described.features, gaussians.features.half().float())
    assert splat_map.described.means is splat_map.gaussians.means
    assert splat_map.bytes_read() == sum(file.stat().st_size for file in ply.parent.iterdir())


def test_an_old_map_gives_the_same_parts(tmp_path: Path) -> None:
    ply = write_old_map(tmp_path, gaussians := make_gaussians())
    splat_map = SplatMap(tmp_path)
    assert splat_map.gaussians.features.shape == (5, 0)
    assert torch.equal(splat_map.described.features, gaussians.features)
    assert splat_map.bytes_read() == ply.stat().st_size


def test_an_edited_ply_serves_stages_that_need_no_descriptors(tmp_path: Path) -> None:
    ply = save_gaussians(tmp_path, 7, make_gaussians())
    ply.with_name("features.safetensors").write_bytes(b"of other Gaussians")
    assert len(SplatMap(tmp_path).gaussians) == 5


def test_a_map_in_memory_is_given_back(tmp_path: Path) -> None:
    splat_map = SplatMap(gaussians=(gaussians := make_gaussians()))
    assert splat_map.gaussians is splat_map.described is gaussians
    assert splat_map.views == [] and splat_map.bytes_read() == 0


def test_a_map_without_gaussians_is_a_users_error() -> None:
    with pytest.raises(GSplatLocError, match="expected Gaussians"):
        SplatMap().described  # noqa: B018
    assert SplatMap().bytes_read() == 0
