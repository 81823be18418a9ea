"""The steps that extractors share."""

import numpy as np
import torch
from kornia.geometry.subpix import nms2d

from gsplatloc.localization.features import detection


def test_local_maxima_are_kornias() -> None:
    heat = torch.rand(60, 80, generator=torch.Generator().manual_seed(0))
    heat[20:40, 20:40] = (8 * heat[20:40, 20:40]).round() / 8  # with equals, which are no maxima
    y, x = (nms2d(heat[None, None], (5, 5), mask_only=True)[0, 0] & (heat > 0.05)).nonzero(as_tuple=True)
    assert torch.equal(detection.local_maxima(heat, 0.05), torch.stack([x, y], 1))
    assert torch.equal(detection.local_maxima(heat.double(), 0.05), torch.stack([x, y], 1))  # as on a GPU


def test_the_peak_of_a_parabola_is_found_between_pixels() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    heat = -((columns - 5.3) ** 2) - (rows - 3.8) ** 2
    index = detection.local_maxima(heat, -1.0)
    assert index.tolist() == [[5, 4]]
    assert torch.allclose(detection.peak_offsets(heat, index), torch.tensor([[0.3, -0.2]]), atol=1e-5)


def test_the_peak_of_the_logarithm_is_found_without_taking_it_everywhere() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    heat = torch.exp(-((columns - 5.3) ** 2) - (rows - 3.8) ** 2)
    found = detection.peak_offsets(heat, torch.tensor([[5, 4]]), 1e-6)
    assert torch.allclose(found, torch.tensor([[0.3, -0.2]]), atol=1e-5)


def test_channels_are_averaged_exactly() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    assert torch.equal(detection.mean_of_channels(image)[0, 0], torch.from_numpy(image).float().mean(2) / 255)


def test_values_are_sampled_at_cell_centres() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    xy = torch.tensor([[0.5, 0.5], [3.5, 2.5], [1.0, 0.5]])
    values = detection.sample_bilinear(maps, xy)[:, 0]
    assert torch.allclose(values, torch.tensor([0.0, 11.0, 0.5]), atol=1e-5)


def test_bicubic_values_are_those_of_torch() -> None:
    """Also where the cells around a position lie outside of the map."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 9, generator=generator)
    xy = torch.rand(200, 2, generator=generator) * torch.tensor([10.0, 7.0]) - 0.5
    xy[:3] = torch.tensor([[0.5, 0.5], [3.5, 2.5], [9.0, 6.0]])
    grid = (2 * xy / torch.tensor([9, 6]) - 1)[None, :, None]
    expected = torch.nn.functional.grid_sample(maps[None], grid, mode="bicubic", align_corners=False)
    torch.testing.assert_close(detection.sample_bicubic(maps, xy), expected[0, :, :, 0].T, atol=1e-5, rtol=0)


def test_an_image_is_resized_to_multiples_of_the_stride() -> None:
    assert detection.resized(torch.rand(1, 3, 50, 70), 16).shape == (1, 3, 48, 64)
    assert detection.network_size(10, 33, 32) == (32, 32)
