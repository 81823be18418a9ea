"""Quality of the images that a map renders: PSNR, SSIM, L1 and, if it was measured, depth."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.exposure import ExposureNetwork, luminance_histogram
from gsplatloc.mapping import losses
from gsplatloc.mapping.frames import FrameLoader, Request, masked_target
from gsplatloc.mapping.options import FrameCacheOptions
from gsplatloc.scene.cameras import View
from gsplatloc.scene.gaussians import Gaussians

_MIN_ALPHA = 0.5  # depth is compared where the rendered alpha is at least this


@dataclass(frozen=True)
class DepthQuality:
    """Rendered against measured depth, over the pixels that have both; includes the sensor's errors."""

    error_m: float  # median |rendered - measured|
    bias: float  # median (rendered - measured) / measured: positive if the map is farther away
    within_1: float  # share of the pixels closer than 1 % of their depth
    within_2: float  # and than 2 %
    covered: float  # share of the measured pixels that are compared


@dataclass(frozen=True)
class ImageQuality:
    """Means over views."""

    views: int
    psnr: float  # dB
    ssim: float
    l1: float  # of intensities in [0, 1]
    depth: DepthQuality | None = None  # medians over the views that have measured depth

    def figures(self) -> dict[str, float]:
        """All figures by name; those of depth, if any, begin with `depth_`."""
        flat = {name: value for name, value in asdict(self).items() if name != "depth"}
        depth = asdict(self.depth) if self.depth is not None else {}
        return flat | {f"depth_{name}": value for name, value in depth.items()}


@torch.no_grad()
def evaluate(
    gaussians: Gaussians,
    requests: Sequence[Request],
    loader: FrameLoader,
    options: RenderOptions,
    exposure: ExposureNetwork | None = None,
) -> ImageQuality:
    """Render each requested view at its scale and compare; colours are clamped to [0, 1].

    A map that was trained with an `exposure` network is compared in the exposure of each image.
    """
    options = replace(options, feature_size=None)
    psnrs, ssims, l1s, depths = [], [], [], []
    for request in requests:
        frame = loader.load(request)
        result = render(gaussians, frame.camera, frame.view.cam_from_world, options)
        rgb = result.rgb
        if exposure is not None:
            rgb = exposure(luminance_histogram(frame.rgb)).apply(rgb)
        rgb = rgb.clamp(0, 1)
        target = masked_target(frame.rgb, rgb, frame.mask)
        psnrs.append(losses.psnr(rgb, target))
        ssims.append(losses.ssim(rgb, target).item())
        l1s.append((rgb - target).abs().mean().item())
        if frame.depth is not None:
            depths.append(depth_quality(result.depth, result.alpha, frame.depth))
    return ImageQuality(len(requests), fmean(psnrs), fmean(ssims), fmean(l1s), _median_quality(depths))


def evaluate_views(
    gaussians: Gaussians, views: Sequence[View], options: RenderOptions | None = None, scale: float = 1.0
) -> ImageQuality:
    """`evaluate` of any map over views of its scene at a scale of their size, with measured depth."""
    with FrameLoader(FrameCacheOptions(), None, gaussians.device) as loader:
        requests = [Request(view, scale, depth=True) for view in views]
        return evaluate(gaussians, requests, loader, options or RenderOptions())


def depth_quality(depth: Tensor, alpha: Tensor, measured: Tensor) -> DepthQuality | None:
    """Rendered depth and alpha [H, W] against measured depth [H, W] in metres, 0 = unknown.

    `depth` is already divided by `alpha`. None if no pixel has both.
    """
    known = measured > 0
    valid = known & (alpha > _MIN_ALPHA)
    if not valid.any():
        return None
    expected = measured[valid]
    relative = (depth[valid] - expected) / expected
    return DepthQuality(
        error_m=(relative * expected).abs().median().item(),
        bias=relative.median().item(),
        within_1=(relative.abs() < 0.01).float().mean().item(),
        within_2=(relative.abs() < 0.02).float().mean().item(),
        covered=(valid.sum() / known.sum()).item(),
    )


def _median_quality(views: Sequence[DepthQuality | None]) -> DepthQuality | None:
    """Each figure's median over the views that have one."""
    found = [asdict(quality) for quality in views if quality is not None]
    if not found:
        return None
    return DepthQuality(**{name: median(quality[name] for quality in found) for name in found[0]})


def quality_line(quality: ImageQuality) -> str:
    """One line for people."""
    text = f"PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.3f}, L1 {quality.l1:.4f}"
    depth = quality.depth
    if depth is not None:
        text += f", median depth error {100 * depth.error_m:.1f} cm ({100 * depth.within_2:.0f} % within 2 %)"
    return f"{text} ({quality.views} views)"
