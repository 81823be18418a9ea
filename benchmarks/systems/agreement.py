"""Agreement of two RGB-D frames along a trajectory, by which a ground truth can be checked."""

import math
from collections.abc import Sequence
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.record import Row
from gsplatloc.localization.alignment.rendered_view import bilinear, sample
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
    seen = bilinear(second.inverse_depth.double()[..., None], *there.unbind(1))
    valid = seen.inside & seen.known & (local[:, 2] > 0)
    apart_mm = 1000 * (seen.values[:, 0] - 1 / local[:, 2]).abs() * local[:, 2].square()
    here, moved = (
        sample(frame.levels[0].contrast.double()[None], at)[:, 0]
        for frame, at in ((first, pixels), (second, there))
    )
    contrast = (moved - here).abs()
    return tuple(values[valid].nanmedian().item() for values in (apart_mm, contrast))  # type: ignore[return-value]


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
