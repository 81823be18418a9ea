"""How well a map reproduces images."""

from dataclasses import replace

import pytest
import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.exposure import ColorTransform, ExposureNetwork
from gsplatloc.mapping.evaluation import (
    DepthQuality,
    ImageQuality,
    depth_quality,
    evaluate,
    evaluate_views,
    quality_line,
)
from gsplatloc.mapping.frames import FrameLoader, Request
from gsplatloc.mapping.options import FrameCacheOptions
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians

OPTIONS = RenderOptions(backend="reference")


def blob() -> Gaussians:
    """One large, nearly opaque blob in front of all cameras."""
    identity = torch.tensor([[1.0, 0, 0, 0]])
    sh, features = torch.ones(1, 1, 3), torch.zeros(1, 0)
    return Gaussians(torch.zeros(1, 3), identity, torch.zeros(1, 3), torch.full((1,), 4.0), sh, features)


class Halved(ExposureNetwork):
    """Takes every photo for one of half the exposure."""

    def forward(self, histogram: torch.Tensor) -> ColorTransform:
        return ColorTransform(0.5 * torch.eye(3), torch.zeros(3))


def quality(view: View, depth: bool = True, exposure: ExposureNetwork | None = None) -> ImageQuality:
    with FrameLoader(FrameCacheOptions(), None, torch.device("cpu")) as loader:
        return evaluate(blob(), [Request(view, depth=depth)], loader, OPTIONS, exposure)


def its_own_picture(view: View, exposure: float = 1.0) -> View:
    result = render(blob(), view.camera, view.cam_from_world, OPTIONS)
    image = ((exposure * result.rgb).clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    depth = (result.depth + 0.02).numpy()
    return replace(view, load_image=lambda: image, load_depth=lambda: depth)


def test_a_map_of_its_own_picture_is_perfect_but_for_rounding(tiny_views: list[View]) -> None:
    found = quality(its_own_picture(tiny_views[0]))
    assert found.psnr > 50 and found.ssim > 0.99 and found.l1 < 1 / 255


def test_a_map_is_compared_in_the_exposure_of_the_photo(tiny_views: list[View]) -> None:
    dark = its_own_picture(tiny_views[0], exposure=0.5)
    assert quality(dark, exposure=Halved()).psnr > 50 > quality(dark).psnr


def test_depth_is_compared_where_there_is_any(tiny_views: list[View]) -> None:
    depth = quality(its_own_picture(tiny_views[0])).depth
    assert depth is not None and depth.error_m == pytest.approx(0.02, abs=1e-5)
    assert quality(its_own_picture(tiny_views[0]), depth=False).depth is None


def test_views_are_judged_without_a_run(tiny_views: list[View]) -> None:
    view = its_own_picture(tiny_views[0])
    assert evaluate_views(blob(), [view], OPTIONS) == quality(view)
    assert evaluate_views(blob(), [replace(view, load_depth=None)], OPTIONS).depth is None


def test_depth_errors_are_shares_of_the_measured_depth() -> None:
    measured = torch.tensor([[2.0, 2.0, 4.0, 4.0]])
    found = depth_quality(torch.tensor([[2.01, 2.03, 4.3, 3.99]]), torch.ones(1, 4), measured)
    assert found is not None
    assert found.error_m == pytest.approx(0.01, abs=1e-5)  # the lower of the two in the middle
    assert found.bias == pytest.approx(0.005, abs=1e-5)
    assert (found.within_1, found.within_2, found.covered) == (0.5, 0.75, 1.0)


def test_depth_is_judged_where_it_was_measured_and_the_map_is_opaque() -> None:
    depth, measured = torch.tensor([[1.0, 9.0, 9.0, 1.0]]), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    found = depth_quality(depth, torch.tensor([[1.0, 1.0, 0.4, 0.6]]), measured)
    assert found is not None and found.error_m == 0 and found.covered == pytest.approx(2 / 3)
    assert depth_quality(depth, torch.zeros(1, 4), measured) is None


def test_figures_are_flat_for_the_log() -> None:
    found = ImageQuality(3, 24.0, 0.8, 0.02, DepthQuality(0.01, 0.001, 0.4, 0.7, 0.9))
    assert found.figures() == {
        "views": 3, "psnr": 24.0, "ssim": 0.8, "l1": 0.02, "depth_error_m": 0.01, "depth_bias": 0.001,
        "depth_within_1": 0.4, "depth_within_2": 0.7, "depth_covered": 0.9,
    }  # fmt: skip
    assert list(replace(found, depth=None).figures()) == ["views", "psnr", "ssim", "l1"]


def test_figures_are_written_with_their_units() -> None:
    text = quality_line(ImageQuality(3, 24.123, 0.81, 0.02, DepthQuality(0.0123, 0, 0.4, 0.7, 1)))
    depth = "median depth error 1.2 cm (70 % within 2 %)"
    assert text == f"PSNR 24.12 dB, SSIM 0.810, L1 0.0200, {depth} (3 views)"
