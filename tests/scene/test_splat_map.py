"""Maps that read no more of their folder than is asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.export import load_gaussians, save_gaussians
from gsplatloc.scene.map_config import MapConfig, write_config
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


@pytest.mark.parametrize("antialiased", [True, False])
def test_a_map_is_rendered_with_the_filter_that_it_was_trained_with(
    tmp_path: Path, antialiased: bool
) -> None:
    save_gaussians(tmp_path, 7, make_gaussians())
    write_config(tmp_path, MapConfig("scene", training={"rendering": {"antialiased": antialiased}}))
    gaussians = SplatMap(tmp_path).described
    assert load_gaussians(tmp_path).antialiased is antialiased
    gaussians = gaussians.select(torch.arange(len(gaussians))).detach().to("cpu")
    gaussians.means = torch.tensor([[0.1 * number, 0.0, 5.0] for number in range(len(gaussians))])
    gaussians.log_scales = torch.full_like(gaussians.log_scales, -6.0)  # less than a pixel
    camera, pose = Camera(32, 24, 30.0, 30.0, 16.0, 12.0), torch.eye(4)
    plain = replace(gaussians, antialiased=False)
    options = RenderOptions(antialiased=antialiased)
    shown = render(gaussians, camera, pose).alpha
    assert torch.equal(shown, render(plain, camera, pose, options).alpha)
    assert torch.equal(shown, render(plain, camera, pose).alpha) is not antialiased


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
