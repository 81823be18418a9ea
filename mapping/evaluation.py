"""How well a map reproduces images: PSNR, SSIM, L1 and, where it was measured, depth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch

from gaussian_renderer import RenderOptions, render
from mapping import losses
from mapping.frames import FrameLoader, Request
from scene.gaussians import Gaussians

_MIN_ALPHA = 0.5  # depth is judged where the map is at least this opaque


@dataclass(frozen=True)
class ImageQuality:
    """Means over views."""

    views: int
    psnr: float  # dB
    ssim: float
    l1: float  # of intensities in [0, 1]
    depth_error_m: float | None = None  # median over views of the median |rendered - measured|


@torch.no_grad()
def evaluate(
    gaussians: Gaussians, requests: Sequence[Request], loader: FrameLoader, options: RenderOptions
) -> ImageQuality:
    """Render each requested view at its scale and compare; colours are clamped as a screen would."""
    options = replace(options, feature_size=None)
    psnrs, ssims, l1s, depths = [], [], [], []
    for request in requests:
        frame = loader.load(request)
        result = render(gaussians, frame.camera, frame.view.cam_from_world, options)
        rgb = result.rgb.clamp(0, 1)
        psnrs.append(losses.psnr(rgb, frame.rgb))
        ssims.append(losses.ssim(rgb, frame.rgb).item())
        l1s.append((rgb - frame.rgb).abs().mean().item())
        if frame.depth is not None:
            valid = (frame.depth > 0) & (result.alpha > _MIN_ALPHA)
            if valid.any():
                depths.append((result.depth - frame.depth)[valid].abs().median().item())
    depth_error = median(depths) if depths else None
    return ImageQuality(len(requests), fmean(psnrs), fmean(ssims), fmean(l1s), depth_error)


def quality_line(quality: ImageQuality) -> str:
    """One line for people."""
    text = f"PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.3f}, L1 {quality.l1:.4f}"
    if quality.depth_error_m is not None:
        text += f", median depth error {100 * quality.depth_error_m:.1f} cm"
    return f"{text} ({quality.views} views)"
