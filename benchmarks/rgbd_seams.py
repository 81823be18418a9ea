"""What the images say about a step in the truth: neighbouring frames, moved by the truth and by trackers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gsplatloc.localization.alignment.blocks import intrinsics_of
from gsplatloc.localization.alignment.residuals import GainBias, ResidualBlock, normal_equations
from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.discontinuities import segments as pieces
from gsplatloc.tracking.evaluation import trajectory_error
from gsplatloc.tracking.frames import RgbdFrame
from gsplatloc.tracking.keyframes import Keyframe, make_keyframe
from gsplatloc.utils import se3

TRUTH = "the truth"
_SAMPLES = 2000  # depths of a frame that are moved into another
_LEAST_FRAMES = 3  # of a piece whose error is stated: fewer fix no rigid motion


@dataclass(frozen=True)
class Agreement:
    """How well two frames agree along one trajectory: medians over samples of the first."""

    depth_mm: float
    contrast: float  # of grey values, in their local deviations


@dataclass(frozen=True)
class SeamRow:
    """A seam of the truth, or the rest of the sequence, along one trajectory."""

    sequence: str
    frame: int | None  # the seam's second frame; None = the median over all other neighbours
    along: str
    depth_mm: float
    contrast: float


def agreements(
    frames: Sequence[RgbdFrame], trajectories: Mapping[str, Trajectory]
) -> dict[str, list[Agreement]]:
    """Of every frame but the first with the one before it, along each trajectory [N] of the frames."""
    found: dict[str, list[Agreement]] = {name: [] for name in trajectories}
    for index in range(1, len(frames)):
        keyframe = keyframe_of(frames[index - 1], torch.eye(4, dtype=torch.float64))
        for name, trajectory in trajectories.items():
            before, pose = trajectory.cam_from_world[index - 1 : index + 1]
            found[name].append(agreement(keyframe, frames[index], pose @ se3.inverse(before)))
    return found


def agreement(keyframe: Keyframe, frame: RgbdFrame, pose: Tensor) -> Agreement:
    """Of a keyframe with a frame at a pose [4, 4]; NaN where they share nothing."""
    level = frame.levels[0]
    shown = replace(keyframe.colour[0], image=level.contrast, intrinsics=intrinsics_of(level.camera))
    contrast = residuals(shown, pose).abs().nanmedian().item()
    return Agreement(1000 * depth_apart(keyframe, frame, pose), contrast)


def seam_rows(name: str, at: Sequence[int], found: Mapping[str, Sequence[Agreement]]) -> list[SeamRow]:
    """Agreement at every seam, and the median over all other frames, along each trajectory."""
    rows = []
    for along, series in found.items():
        rows += [SeamRow(name, i, along, series[i - 1].depth_mm, series[i - 1].contrast) for i in at]
        rest = [usual for i, usual in enumerate(series, start=1) if i not in at]
        depth, contrast = (median(getattr(a, key) for a in rest) for key in ("depth_mm", "contrast"))
        rows.append(SeamRow(name, None, along, depth, contrast))
    return rows


def draw_agreements(path: Path, name: str, found: Mapping[str, Sequence[Agreement]]) -> None:
    """Plot how far the depth of neighbouring frames is apart along each trajectory, as PNG."""
    with matplotlib.rc_context({"font.size": 7, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(6.4, 2.6), dpi=100, layout="constrained")
        axes = figure.subplots()
        for along, series in found.items():
            depths = [pair.depth_mm for pair in series]
            axes.semilogy(range(1, len(depths) + 1), depths, linewidth=0.8, label=f"along {along}")
        axes.set(title=name, xlabel="frame", ylabel="depth apart from the last frame, mm")
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def keyframe_of(frame: RgbdFrame, pose: Tensor) -> Keyframe:
    """Samples of a frame seen from a pose [4, 4], to be moved into others."""
    return make_keyframe(frame, pose, _SAMPLES)


def depth_apart(keyframe: Keyframe, frame: RgbdFrame, pose: Tensor) -> float:
    """Median distance in metres between a keyframe's surface and a frame's at a pose; NaN without overlap."""
    level = frame.levels[0]
    block = replace(keyframe.surface, image=level.inverse_depth, intrinsics=intrinsics_of(level.camera))
    depth = (pose[:3, :3] @ block.points.double() + pose[:3, 3:])[2]
    return (residuals(block, pose).double() * depth.square()).abs().nanmedian().item()


def residuals(block: ResidualBlock, pose: Tensor) -> Tensor:
    """Of the samples [P] at a pose; NaN where they are not in view."""
    return normal_equations(block, pose, 1.0, GainBias()).residuals


def errors_of_pieces(estimate: Trajectory, truth: Trajectory) -> list[tuple[float, float]]:
    """ATE in cm and AAE in degrees of each piece of the truth [N] on its own; none where it has no seam.

    Of the AAE each piece's first pose fixes the frame: pieces are short and hardly curved, and an alignment
    of centres would leave open how far they turn about their path.
    """
    found = pieces(truth)
    return [
        error_of(estimate, truth, part) for part in found if len(found) > 1 and len(part) >= _LEAST_FRAMES
    ]


def error_of(estimate: Trajectory, truth: Trajectory, piece: range) -> tuple[float, float]:
    index = np.array(piece)
    estimate, truth = estimate.select(index), truth.select(index)
    motion = se3.inverse(estimate.cam_from_world[0]) @ truth.cam_from_world[0]
    estimate = Trajectory(estimate.timestamps, estimate.cam_from_world @ motion)
    error = trajectory_error(estimate, truth)
    return 100 * error.ate_rmse_m, error.aae_unaligned_deg


def seam_table(rows: Sequence[SeamRow]) -> str:
    """Markdown: depth and contrast of two frames beside each other, along each trajectory."""
    columns = sorted(
        {(row.sequence, row.frame or 0, row.frame) for row in rows}, key=lambda c: (c[0], c[1] or 1e9)
    )
    titles = [
        f"{name}: {'all others' if frame is None else f'{frame - 1} to {frame}'}"
        for name, _, frame in columns
    ]
    lines = ["| along | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(titles)]
    for along in dict.fromkeys(row.along for row in rows):
        cells = {
            (r.sequence, r.frame): f"{r.depth_mm:.2f} mm, {r.contrast:.3f}" for r in rows if r.along == along
        }
        lines.append(f"| {along} | " + " | ".join(cells.get((c[0], c[2]), "") for c in columns) + " |")
    return "\n".join(lines)
