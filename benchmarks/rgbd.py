#!/usr/bin/env python3
"""RGB-D tracking beside its peers, on the same frames, one after another in one process.

python -m benchmarks.rgbd [--data DIR] [--published] [--timed] [--output benchmarks/results/rgbd.json]

`tum_livingroom1` as a whole, and each of the three stretches of RedKitchen's test frames on its own. Every
method starts from the first true pose, predicts by constant velocity and sees no other truth. `surface` needs
no truth: it is how far the depth of one frame is from that of a later one, moved by the trajectory. Where the
truth has discontinuities (`tracking.discontinuities`), errors are stated for each piece on its own as well. Frames a second are
recorded with `--timed` only, on a machine that does nothing else.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.machine import describe
from benchmarks.rgbd_peers import PEERS, CloudAligner, PeerOptions, package
from benchmarks.rgbd_seams import (
    TRUTH,
    SeamRow,
    agreements,
    depth_apart,
    draw_agreements,
    errors_of_pieces,
    keyframe_of,
    seam_rows,
    seam_table,
)
from gsplatloc.scene.trajectory import Trajectory, associate, write_tum_trajectory
from gsplatloc.tracking.discontinuities import discontinuities as seams
from gsplatloc.tracking.evaluation import TOLERANCE, trajectory_error
from gsplatloc.tracking.frames import RgbdFrame, load_frame
from gsplatloc.tracking.options import TrackingOptions, make_aligner
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.run import track
from gsplatloc.tracking.sequence import RgbdSequence, read_sequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]

OURS, PUBLISHED = "lm (ours)", "gsplatloc (published)"
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
    plot: Path | None = None
    """picture of how neighbouring frames agree, of a sequence whose truth has seams; unset = none"""
    peers: bool = True
    """run point-to-plane ICP and GICP (needs small_gicp)"""
    published: bool = False
    """run the published gradient descent through rendering too: seconds a frame, so what the output file
    holds of it is not run again"""
    published_frames: int = 20
    """of a longer sequence the published method sees only so many; all others are measured on these, too"""
    timed: bool = False
    """record frames a second: this machine does nothing else"""
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
    frames_per_second: float | None  # decoding included; None = not timed, or the truth
    lost: int = 0
    # ATE in cm and AAE in degrees of each piece between the truth's seams; none where it has none
    pieces: Sequence[Sequence[float]] = ()


def main() -> None:
    arguments = tyro.cli(RgbdArguments, description=__doc__, use_underscores=True)
    if arguments.peers:
        package()
    kept = kept_rows(arguments.output)
    rows: list[Row] = []
    steps: list[SeamRow] = []
    for sequence in (s for name in arguments.scenes for s in sequences(arguments.data, name)):
        for part, published in parts(sequence, arguments):
            estimates: dict[str, Trajectory] = {}
            for row, trajectory in measured(part, arguments, published, kept):
                rows.append(row)
                kept.pop((row.sequence, row.method), None)
                log(line(row))
                if trajectory is not None:
                    estimates[row.method] = trajectory
                    keep_trajectory(arguments.trajectories, row, trajectory)
                write(arguments.output, [*rows, *kept.values()], steps)
            if part is sequence:
                steps += at_seams(sequence, estimates, arguments.plot)
    rows += kept.values()
    log(tables({"rows": [asdict(row) for row in rows], "seams": [asdict(step) for step in steps]}))
    write(arguments.output, rows, steps)


def kept_rows(output: Path | None) -> dict[tuple[str, str], Row]:
    """What an earlier run found of the published method, by sequence and method: it takes too long twice."""
    if output is None or not output.is_file():
        return {}
    rows = [Row(**row) for row in read_json(output)["rows"]]
    return {(row.sequence, row.method): row for row in rows if row.method == PUBLISHED}


def parts(sequence: RgbdSequence, arguments: RgbdArguments) -> Iterator[tuple[RgbdSequence, bool]]:
    """The sequence and, where the published method takes too long, its beginning; and whether that runs."""
    count = arguments.published_frames
    short = len(sequence.views) <= count
    yield sequence, arguments.published and short
    if arguments.published and not short:
        beginning = replace(
            sequence,
            name=f"{sequence.name}[:{count}]",
            views=sequence.views[:count],
            timestamps=sequence.timestamps[:count],
        )
        yield beginning, True


def keep_trajectory(folder: Path | None, row: Row, trajectory: Trajectory) -> None:
    if folder is not None:
        name = re.sub(r"[^\w-]+", "_", f"{row.sequence} {row.method}").strip("_")
        write_tum_trajectory(folder / f"{name}.txt", trajectory)


def write(output: Path | None, rows: Sequence[Row], steps: Sequence[SeamRow]) -> None:
    if output is not None:
        facts = describe(torch.device("cpu"))
        found = {"rows": [asdict(row) for row in rows], "seams": [asdict(step) for step in steps]}
        write_json(output, {"machine": facts, **found})


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


def measured(
    sequence: RgbdSequence, arguments: RgbdArguments, published: bool, kept: dict[tuple[str, str], Row]
) -> Iterator[tuple[Row, Trajectory | None]]:
    """A row for the truth itself, ours and the peers; `kept` rows come without their trajectory."""
    options = TrackingOptions()
    frames = [load_frame(view, options.frames) for view in sequence.views]
    known, truth = true_poses(sequence)
    seen = surface_mm([frames[i] for i in known], truth)
    yield Row(sequence.name, "the truth itself", 0, 0, 0, 0, seen, None), None
    methods: dict[str, Callable[[SurfaceMap], Aligner]] = {OURS: lambda s: make_aligner(options, s)}
    if published:
        descent = TrackingOptions("gsplatloc")
        methods[PUBLISHED] = lambda surface: make_aligner(descent, surface)
    if arguments.peers:
        methods |= {name: partial(_peer, peer) for name, peer in PEERS.items()}
    for name, make in methods.items():
        if earlier := kept.get((sequence.name, name)):
            yield earlier, None
            continue
        result = track(sequence, options, make=make)
        error = trajectory_error(result.trajectory, truth)
        row = Row(
            sequence.name,
            name,
            100 * error.ate_rmse_m,
            error.aae_deg,
            100 * error.ate_rmse_unaligned_m,
            error.aae_unaligned_deg,
            surface_mm(frames, result.trajectory),
            len(frames) / result.seconds if arguments.timed else None,
            len(result.lost),
            errors_of_pieces(result.trajectory.select(known), truth),
        )
        yield row, result.trajectory


def _peer(options: PeerOptions, _: SurfaceMap) -> Aligner:
    return CloudAligner(options)


def true_poses(sequence: RgbdSequence) -> tuple[np.ndarray, Trajectory]:
    """Indices [M] of the frames whose pose is known, and these poses."""
    if sequence.truth is None:
        raise GSplatLocError(f"expected a true trajectory of {sequence.name}, found none: restore it")
    known, index = associate(sequence.timestamps, sequence.truth.timestamps, TOLERANCE)
    return known, sequence.truth.select(index)


def at_seams(
    sequence: RgbdSequence, estimates: dict[str, Trajectory], plot: Path | None = None
) -> list[SeamRow]:
    """What the frames beside the truth's seams say, along the truth and along every estimate."""
    known, truth = true_poses(sequence)
    at = seams(truth)
    if not at:
        return []
    frames = [load_frame(sequence.views[i], TrackingOptions().frames) for i in known]
    found = agreements(frames, {TRUTH: truth} | {n: path.select(known) for n, path in estimates.items()})
    if plot is not None:
        shown = [name for name in found if name in (TRUTH, OURS, "GICP, keyframes")]
        draw_agreements(plot, sequence.name, {name: found[name] for name in shown})
    return seam_rows(sequence.name, at, found)


def surface_mm(frames: Sequence[RgbdFrame], trajectory: Trajectory) -> float:
    """Median disagreement of depth over pairs of frames that are a twentieth of the sequence apart."""
    apart = max(1, len(frames) // 20)
    found = []
    for here in range(0, len(frames) - apart, max(1, apart // 2)):
        pose, other = trajectory.cam_from_world[here], trajectory.cam_from_world[here + apart]
        metres = depth_apart(keyframe_of(frames[here], pose), frames[here + apart], other)
        if not math.isnan(metres):
            found.append(metres)
    return 1000 * median(found)


def line(row: Row) -> str:
    speed = "" if row.frames_per_second is None else f"{row.frames_per_second:6.1f} frames/s"
    return (
        f"{row.sequence:18s} {row.method:30s} ATE {row.ate_rmse_cm:7.3f} cm  AAE {row.aae_deg:6.3f} deg"
        f"  surface {row.surface_mm:6.2f} mm  {speed}"
    )


def tables(found: Mapping[str, Any]) -> str:
    """All that was measured, in Markdown; `found` as in the file of figures."""
    rows = [Row(**row) for row in found["rows"]]
    steps = [SeamRow(**step) for step in found.get("seams", [])]
    return table(rows) + (f"\n\n{seam_table(steps)}" if steps else "")


def table(rows: Sequence[Row]) -> str:
    """Markdown, a row per method and data set: stretches are averaged, raw is without alignment."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.sequence.split(" ")[0], row.method), []).append(row)
    lines = [
        "| sequence | method | ATE, cm | AAE, deg | ATE of pieces | AAE of pieces"
        " | raw ATE, cm | raw AAE, deg | surface, mm | frames/s |",
        "| --- |" + " --- |" * 9,
    ]
    whole = {
        name: len({row.sequence for row in rows if row.sequence.split(" ")[0] == name}) for name, _ in grouped
    }
    for (name, method), group in grouped.items():
        share = "" if len(group) == whole[name] else f", {len(group)} of {whole[name]} stretches"
        lines.append(averaged(name, method + share, group))
    return "\n".join(lines)


def averaged(name: str, method: str, rows: Sequence[Row]) -> str:
    """A line of the table: means over the rows; pieces are of a sequence that is alone."""
    speeds = [row.frames_per_second for row in rows if row.frames_per_second is not None]
    ates, aaes = zip(*rows[0].pieces) if len(rows) == 1 and rows[0].pieces else ((), ())
    figures = [
        f"{fmean(row.ate_rmse_cm for row in rows):.2f}",
        f"{fmean(row.aae_deg for row in rows):.2f}",
        " / ".join(f"{ate:.2f}" for ate in ates),
        " / ".join(f"{aae:.2f}" for aae in aaes),
        f"{fmean(row.ate_rmse_unaligned_cm for row in rows):.2f}",
        f"{fmean(row.aae_unaligned_deg for row in rows):.2f}",
        f"{fmean(row.surface_mm for row in rows):.2f}",
        f"{fmean(speeds):.1f}" if speeds else "",
    ]
    return f"| {name} | {method} | " + " | ".join(figures) + " |"


if __name__ == "__main__":
    run_script(main)
