"""Descriptors beside the .ply: whose they are is checked before they are used."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gsplatloc.scene import export
from gsplatloc.scene.feature_file import read_features, write_features
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError


def make_gaussians(count: int = 4, channels: int = 3) -> Gaussians:
    generator = torch.Generator().manual_seed(5)
    shapes = ((3,), (4,), (3,), (), (1, 3), (channels,))
    return Gaussians(*(torch.randn(count, *shape, generator=generator) for shape in shapes))


def test_the_decoder_is_in_the_same_file_in_full_precision(tmp_path: Path) -> None:
    gaussians = replace(make_gaussians(), feature_decoder=torch.rand(64, 3))
    path = export.save_gaussians(tmp_path, 7, gaussians)
    assert sorted(file.name for file in path.parent.iterdir()) == ["features.safetensors", "point_cloud.ply"]
    decoder = export.load_gaussians(tmp_path).feature_decoder
    assert decoder is not None and torch.equal(decoder, gaussians.feature_decoder)


@pytest.mark.parametrize(
    ("order", "found"), [([0, 1, 2], "descriptors of 4:"), ([1, 0, 2, 3], "in another order")]
)
def test_descriptors_of_an_edited_ply_are_refused_in_one_line(
    tmp_path: Path, order: list[int], found: str
) -> None:
    gaussians = make_gaussians()
    path = export.save_gaussians(tmp_path, 7, gaussians)
    export.write_splat(path, gaussians.select(torch.tensor(order)))
    with pytest.raises(GSplatLocError, match=found) as error:
        export.load_gaussians(tmp_path)
    assert "\n" not in str(error.value) and "features.safetensors" in str(error.value)


def test_a_moved_gaussian_is_noticed(tmp_path: Path) -> None:
    gaussians = make_gaussians()
    write_features(tmp_path / "features.safetensors", gaussians)
    gaussians.means[2, 1] += 1e-6
    with pytest.raises(GSplatLocError, match="at other positions"):
        read_features(tmp_path / "features.safetensors", gaussians)


def test_changes_of_appearance_keep_the_descriptors(tmp_path: Path) -> None:
    gaussians = make_gaussians()
    write_features(tmp_path / "features.safetensors", gaussians)
    recolored = replace(gaussians, sh=gaussians.sh + 1, features=torch.zeros(4, 0))
    features = read_features(tmp_path / "features.safetensors", recolored).features
    assert torch.equal(features, gaussians.features.half().float())


@pytest.mark.parametrize("content", [b"", b"junk", {"other": torch.ones(4, 3)}])
def test_a_broken_file_is_a_users_error(tmp_path: Path, content: bytes | dict[str, torch.Tensor]) -> None:
    path = tmp_path / "features.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_file(content, path)
    with pytest.raises(GSplatLocError, match=path.name):
        read_features(path, make_gaussians())


@pytest.mark.parametrize(
    ("features", "decoder", "message"),
    [
        (torch.full((4, 3), torch.inf), None, "finite descriptors"),
        (torch.ones(12), None, "found 12 numbers"),
        (torch.ones(5, 3), None, "found 5x3 numbers"),
        (torch.ones(4, 3), torch.ones(64, 2), "decoder of 3 channels"),
    ],
)
def test_wrong_tensors_are_a_users_error(
    tmp_path: Path, features: torch.Tensor, decoder: torch.Tensor | None, message: str
) -> None:
    path, gaussians = tmp_path / "features.safetensors", make_gaussians()
    write_features(path, replace(gaussians, features=features, feature_decoder=decoder))
    with pytest.raises(GSplatLocError, match=message):
        read_features(path, gaussians)


def test_a_ply_of_another_name_in_a_maps_folder_has_no_descriptors(tmp_path: Path) -> None:
    path = export.save_gaussians(tmp_path, 7, make_gaussians())
    export.write_splat(cropped := path.with_name("cropped.ply"), make_gaussians().select(torch.tensor([2])))
    assert export.load_gaussians(cropped).features.shape == (1, 0)
    assert export.load_gaussians(path).features.shape == (4, 3)


def test_stored_descriptors_take_two_bytes_a_channel(tmp_path: Path) -> None:
    path = export.save_gaussians(tmp_path, 7, make_gaussians()).with_name("features.safetensors")
    assert load_file(path)["features"].dtype == torch.float16
