#!/usr/bin/env python3
"""RGB-D tracking beside its peers, on the same frames, one after another in one process.

python benchmarks/rgbd.py [--data DIR] [--published] [--output benchmarks/results/rgbd.json]

`tum_livingroom1` as a whole, and each of the three stretches of RedKitchen's test frames on its own. Every
method starts from the first true pose, predicts by constant velocity and sees no other truth. `surface` needs
no truth: it is how far the depth of one frame is from that of a later one, moved by the trajectory.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median

import torch
import tyro

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe  # noqa: E402
from benchmarks.rgbd_peers import PEERS, CloudAligner, package  # noqa: E402
from localization.refine.blocks import intrinsics_of  # noqa: E402
from localization.refine.residuals import Exposure, normal_equations  # noqa: E402
from scene.trajectory import Trajectory, associate, write_tum_trajectory  # noqa: E402
from tracking.evaluation import TOLERANCE, trajectory_error  # noqa: E402
from tracking.frames import Frame, load_frame  # noqa: E402
from tracking.keyframes import make_keyframe  # noqa: E402
from tracking.options import TrackingOptions, make_aligner  # noqa: E402
from tracking.protocol import Aligner  # noqa: E402
from tracking.run import track  # noqa: E402
from tracking.sequence import RgbdSequence, read_sequence  # noqa: E402
from tracking.surface import SurfaceMap  # noqa: E402
from utils.console import log, run_script  # noqa: E402
from utils.errors import GSplatLocError  # noqa: E402
from utils.io import write_json  # noqa: E402

_SURFACE_SAMPLES = 2000  # depths of a frame that are moved into another
_STRETCH = 20  # test frames of RedKitchen in a row


@dataclass(frozen=True)
class RgbdArguments:
    """What is run."""

    data: Path = Path(os.environ.get("GSPLATLOC_DATA", ROOT.parent / "shared" / "data"))
    """folder of the data sets; default: $GSPLATLOC_DATA"""
    output: Path | None = None
    """file for the figures; unset = none is written"""
    trajectories: Path | None = None
    """folder for every trajectory in TUM format; unset = none is written"""
    peers: bool = True
    """run point-to-plane ICP and GICP (needs small_gicp)"""
    published: bool = False
    """run the published gradient descent through rendering too: seconds a frame"""
    scenes: tuple[str, ...] = ("tum_livingroom1", "pgt_7scenes_redkitchen")
    """data sets to run"""


@dataclass(frozen=True)
class Row:
    """One method on one sequence."""

    sequence: str
    method: str
    ate_rmse_cm: float
    aae_deg: float
    ate_rmse_unaligned_cm: float
    aae_unaligned_deg: float
    surface_mm: float  # median disagreement of depth between frames
    frames_per_second: float | None  # decoding included; None for the truth
    lost: int = 0


def main() -> None:
    arguments = tyro.cli(RgbdArguments, description=__doc__, use_underscores=True)
    if arguments.peers:
        package()
    rows: list[Row] = []
    for sequence in (s for name in arguments.scenes for s in sequences(arguments.data, name)):
        for row, trajectory in measured(sequence, arguments):
            rows.append(row)
            log(line(row))
            if arguments.trajectories is not None:
                name = re.sub(r"[^\w-]+", "_", f"{row.sequence} {row.method}").strip("_")
                write_tum_trajectory(arguments.trajectories / f"{name}.txt", trajectory)
    log(table(rows))
    if arguments.output is not None:
        facts = describe(torch.device("cpu")) | {"threads": torch.get_num_threads()}
        write_json(arguments.output, {"machine": facts, "rows": [asdict(row) for row in rows]})


def sequences(data: Path, name: str) -> list[RgbdSequence]:
    """The sequences of a data set: RedKitchen's test frames are three stretches, far from each other."""
    if name != "pgt_7scenes_redkitchen":
        return [read_sequence(data / name)]
    count = len(read_sequence(data / name, split="test").views) // _STRETCH
    parts = [
        read_sequence(data / name, split="test", frames=slice(_STRETCH * i, _STRETCH * (i + 1)))
        for i in range(count)
    ]
    return [replace(part, name=f"redkitchen {index}") for index, part in enumerate(parts, start=1)]


def measured(sequence: RgbdSequence, arguments: RgbdArguments) -> Iterator[tuple[Row, Trajectory]]:
    """A row for the truth itself, ours and the peers."""
    if sequence.truth is None:
        raise GSplatLocError(f"expected a true trajectory of {sequence.name}, found none: restore it")
    options = TrackingOptions()
    frames = [load_frame(view, options.frames) for view in sequence.views]
    known, index = associate(sequence.timestamps, sequence.truth.timestamps, TOLERANCE)
    truth, seen = sequence.truth.select(index), [frames[i] for i in known]
    yield Row(sequence.name, "the truth itself", 0, 0, 0, 0, surface_mm(seen, truth), None), truth
    methods: dict[str, Callable[[SurfaceMap], Aligner]] = {"lm (ours)": lambda s: make_aligner(options, s)}
    if arguments.published:
        published = TrackingOptions("gsplatloc")
        methods["gsplatloc (published)"] = lambda surface: make_aligner(published, surface)
    if arguments.peers:
        methods |= {name: lambda _, peer=peer: CloudAligner(peer) for name, peer in PEERS.items()}
    for name, make in methods.items():
        result = track(sequence, options, make=make)
        error = trajectory_error(result.trajectory, sequence.truth)
        yield (
            Row(
                sequence.name,
                name,
                100 * error.ate_rmse_m,
                error.aae_deg,
                100 * error.ate_rmse_unaligned_m,
                error.aae_unaligned_deg,
                surface_mm(frames, result.trajectory),
                len(frames) / result.seconds,
                len(result.lost),
            ),
            result.trajectory,
        )


def surface_mm(frames: Sequence[Frame], trajectory: Trajectory) -> float:
    """Median disagreement of depth over pairs of frames that are a twentieth of the sequence apart."""
    apart = max(1, len(frames) // 20)
    found = []
    for here in range(0, len(frames) - apart, max(1, apart // 2)):
        there = here + apart
        pose, other = trajectory.cam_from_world[here], trajectory.cam_from_world[there]
        keyframe = make_keyframe(frames[here], pose, TrackingOptions().lm.contrast, _SURFACE_SAMPLES)
        level = frames[there].levels[0]
        block = replace(keyframe.surface, image=level.inverse_depth, intrinsics=intrinsics_of(level.camera))
        residuals = normal_equations(block, other, 1.0, Exposure()).residuals
        depth = (other[:3, :3] @ block.points.double() + other[:3, 3:])[2]
        apart_m = (residuals.double() * depth.square()).abs()
        apart_m = apart_m[~apart_m.isnan()]
        if len(apart_m):
            found.append(apart_m.median().item())
    return 1000 * median(found)


def line(row: Row) -> str:
    speed = "" if row.frames_per_second is None else f"{row.frames_per_second:6.1f} frames/s"
    return (
        f"{row.sequence:18s} {row.method:30s} ATE {row.ate_rmse_cm:7.3f} cm  AAE {row.aae_deg:6.3f} deg"
        f"  surface {row.surface_mm:6.2f} mm  {speed}"
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown, a row per method and data set: stretches are averaged, raw is without alignment."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.sequence.split(" ")[0], row.method), []).append(row)
    lines = [
        "| sequence | method | ATE, cm | AAE, deg | raw ATE, cm | raw AAE, deg | surface, mm | frames/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, method), group in grouped.items():
        speeds = [row.frames_per_second for row in group if row.frames_per_second is not None]
        figures = [
            f"{fmean(row.ate_rmse_cm for row in group):.2f}",
            f"{fmean(row.aae_deg for row in group):.2f}",
            f"{fmean(row.ate_rmse_unaligned_cm for row in group):.2f}",
            f"{fmean(row.aae_unaligned_deg for row in group):.2f}",
            f"{fmean(row.surface_mm for row in group):.2f}",
            f"{fmean(speeds):.1f}" if speeds else "",
        ]
        lines.append(f"| {name} | {method} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
