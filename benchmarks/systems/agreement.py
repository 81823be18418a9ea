"""Agreement of two RGB-D frames along a trajectory: it needs no ground truth, and can contradict one."""

import math
from collections.abc import Sequence
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.record import Row
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.utils import se3

_SAMPLES = 2000  # depths of a frame that are moved into another

Agreement = tuple[float, float]  # median differences: depth in mm, local contrast in standard deviations


def agreement(first: RgbdFrame, second: RgbdFrame, motion: Tensor) -> Agreement:
    """Of samples of the first frame, moved by `motion` [4, 4] into the second; NaN without overlap."""
    inverse = first.inverse_depth
    known = F.max_pool2d((inverse <= 0).float()[None, None], 3, stride=1, padding=1)[0, 0] == 0
    step = max(1, math.isqrt(inverse.numel() // _SAMPLES))
    rows, columns = known[::step, ::step].nonzero(as_tuple=True)
    pixels = step * torch.stack([columns, rows], 1).double() + 0.5
    depth = 1 / inverse[::step, ::step][rows, columns].double()
    local = first.camera.unproject(pixels, depth) @ motion[:3, :3].T.double() + motion[:3, 3].double()
    there = second.camera.project(local)
    valid = (_sampled((second.inverse_depth > 0).double(), there) > 0.999) & (local[:, 2] > 0)
    seen = _sampled(second.inverse_depth.double(), there)
    apart_mm = 1000 * (seen - 1 / local[:, 2]).abs() * local[:, 2].square()
    contrast = _sampled(second.levels[0].contrast.double(), there)
    contrast = (contrast - _sampled(first.levels[0].contrast.double(), pixels)).abs()
    return tuple(values[valid].nanmedian().item() for values in (apart_mm, contrast))  # type: ignore[return-value]


def _sampled(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values of an image [H, W] at pixels [N, 2], zero outside."""
    size = torch.tensor([image.shape[1], image.shape[0]], dtype=pixels.dtype)
    grid = (2 * pixels / size - 1)[None, None]
    return F.grid_sample(image[None, None], grid, align_corners=False)[0, 0, 0]


def of_neighbours(frames: Sequence[RgbdFrame], trajectory: Trajectory) -> list[Agreement]:
    """Agreement of every frame but the first with the one before it."""
    poses = trajectory.cam_from_world
    return [
        agreement(frames[i - 1], frames[i], poses[i] @ se3.inverse(poses[i - 1]))
        for i in range(1, len(frames))
    ]


def surface_mm(frames: Sequence[RgbdFrame], trajectory: Trajectory) -> float:
    """Median disagreement of depth over pairs of frames that are a twentieth of the sequence apart."""
    gap, poses = max(1, len(frames) // 20), trajectory.cam_from_world
    found = [
        agreement(frames[i], frames[i + gap], poses[i + gap] @ se3.inverse(poses[i]))[0]
        for i in range(0, len(frames) - gap, max(1, gap // 2))
    ]
    return median(metres for metres in found if not math.isnan(metres))


def rows_of(frames: Sequence[int], series: Sequence[Agreement]) -> list[Row]:
    """Agreement of `frames` with those before them, and the median over all others (frame None)."""
    others = [found for i, found in enumerate(series, start=1) if i not in frames]
    rest = (median(depth for depth, _ in others), median(contrast for _, contrast in others))
    found = [*((i, series[i - 1]) for i in frames), (None, rest)]
    return [{"frame": frame, "depth_mm": depth, "contrast": contrast} for frame, (depth, contrast) in found]
