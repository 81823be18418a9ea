"""The network and its file."""

from pathlib import Path

import pytest
import torch

from gsplatloc.localization.splat_descriptors.network import (
    GRIDS,
    SplatEncoder,
    load_encoder,
    save_encoder,
    weights_key,
)
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.tensors import write_tensors


def grids(count: int = 20) -> torch.Tensor:
    values = torch.rand(count, len(GRIDS), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    values[:, :, 1] = 1.0
    return values


@pytest.fixture
def encoder() -> SplatEncoder:
    torch.manual_seed(0)
    return SplatEncoder().eval()


def test_descriptors_have_unit_length(encoder: SplatEncoder) -> None:
    descriptors, scores = encoder(grids())
    assert descriptors.shape == (20, 64) and scores.shape == (20,)
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(20), atol=1e-5)


def test_exposure_hardly_matters(encoder: SplatEncoder) -> None:
    plain = grids()
    darker = plain.clone()
    darker[:, :, 0] = 0.5 * plain[:, :, 0] + 0.1
    cosine = (encoder(plain)[0] * encoder(darker)[0]).sum(1)
    assert cosine.min() > 0.999


def test_weights_are_read_as_they_were_written(encoder: SplatEncoder, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_encoder(encoder, path, {"extractor": "x-1", "command": "train-matcher"})
    again = load_encoder(path, "x-1")
    assert (again(grids())[0] - encoder(grids())[0]).abs().max() < 2e-3  # they are stored in 16 bits
    before = weights_key(path)
    save_encoder(encoder, path, {"extractor": "x-2"})
    assert weights_key(path) != before


def test_missing_weights_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="train-matcher"):
        load_encoder(tmp_path / "none.safetensors", "x-1")


def test_weights_of_another_extractor_are_a_users_error(encoder: SplatEncoder, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_encoder(encoder, path, {"extractor": "disk-1"})
    with pytest.raises(GSplatLocError, match="expected weights for x-1 .* found those for disk-1"):
        load_encoder(path, "x-1")


def test_other_files_are_a_users_error(encoder: SplatEncoder, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.zeros(3)}, {"format": "gsplatloc-landmarks-2"})
    with pytest.raises(GSplatLocError, match="gsplatloc-landmarks-2"):
        load_encoder(path, "x-1")
    path.write_bytes(b"no weights at all")
    with pytest.raises(GSplatLocError, match="weights"):
        load_encoder(path, "x-1")
    tensors = {name: value[..., :1] for name, value in encoder.state_dict().items() if value.ndim}
    write_tensors(path, tensors, {"format": "gsplatloc-splat-encoder-1", "extractor": "x-1"})
    with pytest.raises(GSplatLocError, match="weights"):
        load_encoder(path, "x-1")
