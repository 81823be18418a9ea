"""Colours of a rendering brought to a photo's: what is solved for, what is learned, what is saved."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gsplatloc.localization.alignment.exposure import (
    BINS,
    ColorTransform,
    ExposureNetwork,
    fit_affine,
    load_exposure,
    luminance_histogram,
    save_exposure,
)
from gsplatloc.utils.errors import GSplatLocError

OPAQUE = torch.ones(120, 160)
CAST = ColorTransform(
    torch.tensor([[0.8, 0.05, 0.0], [0.0, 0.9, 0.02], [0.03, 0.0, 1.1]]), torch.tensor([0.05, 0.0, -0.03])
)


def picture(seed: int = 0) -> Tensor:
    """Coloured blocks [3, 120, 160] in [0.2, 0.8]."""
    blocks = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed))
    return 0.2 + 0.6 * torch.nn.functional.interpolate(blocks, (120, 160))[0]


def test_an_affine_change_of_colours_is_found() -> None:
    found = fit_affine(picture(), CAST.apply(picture()), OPAQUE)
    error = found.apply(picture()) - CAST.apply(picture())
    assert error.abs().mean() < 0.01


def test_an_object_that_is_not_mapped_does_not_decide_the_colours() -> None:
    photo = CAST.apply(picture())
    photo[:, 30:70, 40:90] = 1.0
    error = fit_affine(picture(), photo, OPAQUE).apply(picture()) - CAST.apply(picture())
    assert error.abs().mean() < 0.015


def test_a_rendering_moved_by_a_few_pixels_gives_nearly_the_same_colours() -> None:
    photo = CAST.apply(picture()).roll((2, 3), (1, 2))
    error = fit_affine(picture(), photo, OPAQUE).apply(picture()) - CAST.apply(picture())
    assert error.abs().mean() < 0.03


def test_where_nothing_is_mapped_colours_stay() -> None:
    found = fit_affine(picture(), CAST.apply(picture()), torch.zeros(120, 160))
    assert torch.equal(found.apply(picture()), picture())


def test_histogram_shares_sum_to_one_and_follow_brightness() -> None:
    dark, bright = luminance_histogram(0.5 * picture()), luminance_histogram(picture())
    level = torch.arange(BINS) / (BINS - 1)
    for shares in (dark, bright):
        assert shares.sum().item() == pytest.approx(1, abs=1e-4)
    assert (dark * level).sum().item() == pytest.approx(0.5 * (bright * level).sum().item(), abs=1e-3)


def test_a_network_is_the_same_after_saving(tmp_path: Path) -> None:
    network = ExposureNetwork(seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1
    network.observe(luminance_histogram(picture()))
    save_exposure(tmp_path / "exposure.safetensors", network)
    photo = (255 * picture(1)).byte().permute(1, 2, 0).numpy()
    saved, kept = load_exposure(tmp_path / "exposure.safetensors").of_photo(photo), network.of_photo(photo)
    assert torch.equal(saved.matrix, kept.matrix) and torch.equal(saved.bias, kept.bias)
    assert not torch.allclose(kept.matrix, torch.eye(3), atol=1e-3)


def test_an_untrained_network_changes_nothing() -> None:
    transform = ExposureNetwork().of_photo(np.full((8, 8, 3), 200, np.uint8))
    assert torch.equal(transform.apply(picture()), picture())


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_a_file_that_is_none_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "exposure.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GSplatLocError, match="expected an exposure network") as error:
        load_exposure(path)
    assert "\n" not in str(error.value)
