"""How well a map reproduces images."""

from dataclasses import replace

import pytest
import torch

from gaussian_renderer import RenderOptions, render
from mapping.evaluation import ImageQuality, evaluate, quality_line
from mapping.frames import FrameLoader, FrameOptions, Request
from scene.cameras import View
from scene.gaussians import Gaussians

OPTIONS = RenderOptions(backend="reference")


def blob() -> Gaussians:
    """One large, nearly opaque blob in front of all cameras."""
    identity = torch.tensor([[1.0, 0, 0, 0]])
    sh, features = torch.ones(1, 1, 3), torch.zeros(1, 0)
    return Gaussians(torch.zeros(1, 3), identity, torch.zeros(1, 3), torch.full((1,), 4.0), sh, features)


def quality(view: View, depth: bool = True, scale: float = 1.0) -> ImageQuality:
    with FrameLoader(FrameOptions(), None, torch.device("cpu")) as loader:
        return evaluate(blob(), [Request(view, scale, depth=depth)], loader, OPTIONS)


def its_own_picture(view: View) -> View:
    result = render(blob(), view.camera, view.cam_from_world, OPTIONS)
    image = (result.rgb.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    depth = (result.depth + 0.02).numpy()
    return replace(view, load_image=lambda: image, load_depth=lambda: depth)


def test_a_map_of_its_own_picture_is_perfect_but_for_rounding(tiny_views: list[View]) -> None:
    found = quality(its_own_picture(tiny_views[0]))
    assert found.psnr > 50 and found.ssim > 0.99 and found.l1 < 1 / 255


def test_depth_is_compared_where_there_is_any(tiny_views: list[View]) -> None:
    view = its_own_picture(tiny_views[0])
    assert quality(view).depth_error_m == pytest.approx(0.02, abs=1e-5)
    assert quality(view, depth=False).depth_error_m is None


def test_figures_are_written_with_their_units() -> None:
    text = quality_line(ImageQuality(3, 24.123, 0.81, 0.02, 0.0123))
    assert text == "PSNR 24.12 dB, SSIM 0.810, L1 0.0200, median depth error 1.2 cm (3 views)"
