"""RGB-D tracking beside registration of point clouds, on the same frames, one after another in one process.

`tum_livingroom1` as a whole, and each of the three stretches of RedKitchen's test frames on its own. Every
method starts from the first true pose, predicts by constant velocity and uses no other ground truth.
*surface* needs none: the median disagreement of the depths of two frames, the first one moved by the
trajectory. Where the ground truth has discontinuities, errors are stated for each segment as well. Frames a
second are recorded with `--timed` only, on a machine that does nothing else.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from benchmarks import DATA, RESULTS, ROOT
from benchmarks.harness.results import (
    NONE,
    Record,
    RecordArguments,
    Row,
    origin_line,
    publish,
    saved_figure,
    table,
)
from benchmarks.systems.cloud_registration import PEERS, CloudAligner, PeerOptions, package
from gsplatloc.localization.alignment.rendered_view import bilinear, sample
from gsplatloc.scene.trajectory import Trajectory, associate, write_tum_trajectory
from gsplatloc.tracking.discontinuities import discontinuities, segments
from gsplatloc.tracking.evaluation import TOLERANCE, trajectory_error
from gsplatloc.tracking.frames import RgbdFrame, load_frame
from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.run import make_aligner, track
from gsplatloc.tracking.sequence import RgbdSequence, read_sequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

OURS = "lm (ours)"
TRUTH, PUBLISHED = "ground truth", "gsplatloc (published)"
_MEANS = ("ate_rmse_unaligned_cm", "aae_unaligned_deg", "surface_mm")
_SAMPLES = 2000  # depths of a frame that are moved into another
_STRETCH = 20  # test frames of RedKitchen in a row
_LEAST_FRAMES = 3  # of a segment whose error is stated: fewer fix no rigid motion

Method = Callable[[SurfaceMap], Aligner]
Agreement = tuple[float, float]  # median differences: depth in mm, local contrast in standard deviations


@dataclass(frozen=True)
class RgbdArguments(RecordArguments):
    """What is run."""

    scenes: tuple[str, ...] = ("tum_livingroom1", "pgt_7scenes_redkitchen")  # data sets to run
    data: Path = DATA  # folder of the data sets; default: $GSPLATLOC_DATA
    peers: bool = True  # run point-to-plane ICP and GICP (needs small_gicp)
    published: bool = True  # run the published gradient descent through rendering: seconds a frame
    published_frames: int = 20
    """of a longer sequence the published method gets only so many; all others are measured on these, too"""
    timed: bool = False  # record frames a second: this machine does nothing else
    trajectories: Path | None = None  # folder for every trajectory in TUM format; unset = none is written
    results: Path = RESULTS / "rgbd.json"  # file of results


def main() -> None:
    arguments = tyro.cli(RgbdArguments, description=__doc__)
    if arguments.peers:
        package()
    record = Record(arguments.results, arguments.keep)
    for sequence in (s for name in arguments.scenes for s in sequences(arguments.data, name)):
        for part, published in parts(sequence, arguments):
            SequenceBench(part, arguments, record).run(published, whole=part is sequence)
    if arguments.publish:
        publish_rgbd(record.rows)


def sequences(data: Path, name: str) -> list[RgbdSequence]:
    """The sequences of a data set: RedKitchen's test frames are three stretches, far from each other."""
    if name != "pgt_7scenes_redkitchen":
        return [read_sequence(data / name)]
    count = len(read_sequence(data / name, split="test").views) // _STRETCH
    stretches = [slice(_STRETCH * i, _STRETCH * (i + 1)) for i in range(count)]
    found = [read_sequence(data / name, split="test", frames=frames) for frames in stretches]
    return [replace(part, name=f"redkitchen {index}") for index, part in enumerate(found, start=1)]


def parts(sequence: RgbdSequence, arguments: RgbdArguments) -> Iterator[tuple[RgbdSequence, bool]]:
    """The sequence and, if it is too long for the published method, its beginning; and whether that runs."""
    count = arguments.published_frames
    short = len(sequence.views) <= count
    yield sequence, arguments.published and short
    if arguments.published and not short:
        name, views = f"{sequence.name}[:{count}]", sequence.views[:count]
        yield replace(sequence, name=name, views=views, timestamps=sequence.timestamps[:count]), True


class SequenceBench:
    """One sequence and its frames."""

    def __init__(self, sequence: RgbdSequence, arguments: RgbdArguments, record: Record):
        self.sequence, self.arguments, self.record = sequence, arguments, record
        if sequence.truth is None:
            raise GSplatLocError(f"expected a true trajectory of {sequence.name}, found none: restore it")
        self.known, index = associate(sequence.timestamps, sequence.truth.timestamps, TOLERANCE)
        self.truth = sequence.truth.select(index)  # of the frames at `known`
        self.options = TrackingOptions()
        self.frames = [load_frame(view, self.options.frames) for view in sequence.views]

    def run(self, published: bool, whole: bool) -> None:
        """Measure every method; in a whole sequence, compare neighbouring frames too."""
        estimates = {TRUTH: self.truth}
        for name, make in self._methods(published).items():
            key = {"part": "trajectory", "sequence": self.sequence.name, "method": name}
            found = self.record.find(**key)
            if found is None or (self.arguments.timed and found["frames_per_second"] is None and make):
                figures, estimates[name] = self._tracked(name, make)
                self.record.put(key, figures)
                log(f"{self.sequence.name} {name}: ATE {figures['ate_rmse_cm']:.2f} cm")
        if whole and discontinuities(self.truth):
            self._compare_neighbours(estimates)

    def _methods(self, published: bool) -> dict[str, Method | None]:
        """Aligners by name; None for the ground truth itself."""
        methods: dict[str, Method | None] = {TRUTH: None, OURS: partial(make_aligner, self.options)}
        if published:
            methods[PUBLISHED] = partial(make_aligner, TrackingOptions("gsplatloc"))
        if self.arguments.peers:
            methods |= {name: partial(_peer, peer) for name, peer in PEERS.items()}
        return methods

    def _tracked(self, name: str, make: Method | None) -> tuple[Row, Trajectory]:
        """Errors of one method, and its poses of the frames whose true pose is known."""
        if make is None:
            frames = [self.frames[i] for i in self.known]
            zero = dict.fromkeys(
                ("ate_rmse_cm", "aae_deg", "ate_rmse_unaligned_cm", "aae_unaligned_deg"), 0.0
            )
            surface = surface_mm(frames, self.truth)
            return zero | {"surface_mm": surface, "frames_per_second": None, "segments": []}, self.truth
        result = track(self.sequence, self.options, make=make)
        error = trajectory_error(result.trajectory, self.truth)
        if self.arguments.trajectories is not None:
            file = f"{self.sequence.name} {name}".replace(" ", "_").replace(":", "")
            write_tum_trajectory(self.arguments.trajectories / f"{file}.txt", result.trajectory)
        estimate = result.trajectory.select(self.known)
        return {
            "ate_rmse_cm": 100 * error.ate_rmse_m,
            "aae_deg": error.aae_deg,
            "ate_rmse_unaligned_cm": 100 * error.ate_rmse_unaligned_m,
            "aae_unaligned_deg": error.aae_unaligned_deg,
            "surface_mm": surface_mm(self.frames, result.trajectory),
            "frames_per_second": len(self.frames) / result.seconds if self.arguments.timed else None,
            "lost": len(result.lost),
            "segments": segment_errors(estimate, self.truth),
        }, estimate

    def _compare_neighbours(self, estimates: dict[str, Trajectory]) -> None:
        """Agreement of neighbouring frames at the discontinuities, along every trajectory of this run."""
        frames = [self.frames[i] for i in self.known]
        found = {name: of_neighbours(frames, trajectory) for name, trajectory in estimates.items()}
        for along, series in found.items():
            for row in rows_of(discontinuities(self.truth), series):
                key = {"part": "discontinuity", "sequence": self.sequence.name, "along": along}
                self.record.put(key | {"frame": row.pop("frame")}, row)
            if along in (TRUTH, OURS, "GICP, keyframes"):
                key = {"part": "neighbours", "sequence": self.sequence.name, "along": along}
                self.record.put(key, {"depth_mm": [depth for depth, _ in series]})


def _peer(options: PeerOptions, _: SurfaceMap) -> Aligner:
    return CloudAligner(options)


def segment_errors(estimate: Trajectory, truth: Trajectory) -> list[tuple[float, float]]:
    """ATE in cm and AAE in degrees of each segment of the ground truth [N]; none without discontinuities.

    Each segment's first pose fixes the frame of the AAE: segments are short and nearly straight, and an
    alignment of centres would leave open how far they turn about their path.
    """
    found = segments(truth)
    kept = [part for part in found if len(found) > 1 and len(part) >= _LEAST_FRAMES]
    return [_segment_error(estimate.select(np.array(part)), truth.select(np.array(part))) for part in kept]


def _segment_error(estimate: Trajectory, truth: Trajectory) -> tuple[float, float]:
    motion = se3.inverse(estimate.cam_from_world[0]) @ truth.cam_from_world[0]
    estimate = Trajectory(estimate.timestamps, estimate.cam_from_world @ motion)
    error = trajectory_error(estimate, truth)
    return 100 * error.ate_rmse_m, error.aae_unaligned_deg


def publish_rgbd(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write both tables, between the marks of `rgbd`, and the plot below `root`."""
    if series := [row for row in rows if row["part"] == "neighbours"]:
        draw_neighbours(root / "docs" / "images" / "rgbd-seams.png", series)
    parts = [origin_line(rows), trajectory_table(rows), discontinuity_table(rows)]
    return publish({"rgbd": "\n\n".join(part for part in parts if part)}, root)


def trajectory_table(rows: Sequence[Row]) -> str:
    """A row per method and data set: stretches are averaged, raw is without alignment."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    stretches: dict[str, set[str]] = {}
    for row in rows:
        if row["part"] == "trajectory":
            name = row["sequence"].split(" ")[0]
            grouped.setdefault((name, row["method"]), []).append(row)
            stretches.setdefault(name, set()).add(row["sequence"])
    lines = []
    for (name, method), group in sorted(grouped.items(), key=lambda item: list(stretches).index(item[0][0])):
        whole = len(stretches[name])
        share = "" if len(group) == whole else f", {len(group)} of {whole} stretches"
        lines.append([name, method + share, *_averaged(group)])
    header = ["sequence", "method", "ATE, cm", "AAE, deg", "ATE of segments", "AAE of segments",
              "raw ATE, cm", "raw AAE, deg", "surface, mm", "frames/s"]  # fmt: skip
    return table(header, lines)


def _averaged(rows: Sequence[Row]) -> list[str]:
    """Means over the rows; segments are stated for a sequence on its own."""
    speeds = [row["frames_per_second"] for row in rows if row["frames_per_second"] is not None]
    segments = rows[0]["segments"] if len(rows) == 1 else []
    return [
        *(_mean(rows, key) for key in ("ate_rmse_cm", "aae_deg")),
        *(" / ".join(f"{segment[i]:.2f}" for segment in segments) for i in (0, 1)),
        *(_mean(rows, key) for key in _MEANS),
        f"{fmean(speeds):.1f}" if speeds else "",
    ]


def _mean(rows: Sequence[Row], key: str) -> str:
    """The mean over the rows with a figure: a straight path has no aligned angle."""
    known = [row[key] for row in rows if row[key] is not None]
    return f"{fmean(known):.2f}" if known else NONE


def discontinuity_table(rows: Sequence[Row]) -> str:
    """Agreement of two neighbouring frames in depth and contrast, along each trajectory."""
    cells: dict[str, dict[str, str]] = {}
    titles: list[str] = []
    for row in rows:
        if row["part"] == "discontinuity":
            frame = row["frame"]
            title = f"{row['sequence']}: {'all others' if frame is None else f'{frame - 1} to {frame}'}"
            titles += [title] if title not in titles else []
            cells.setdefault(row["along"], {})[title] = f"{row['depth_mm']:.2f} mm, {row['contrast']:.3f}"
    lines = [[along, *(found.get(title, "") for title in titles)] for along, found in cells.items()]
    return table(["along", *titles], lines)


def draw_neighbours(path: Path, rows: Sequence[Row]) -> None:
    """Plot the disagreement of depth of neighbouring frames along each trajectory."""
    with saved_figure(path, (6.4, 2.6)) as figure:
        axes = figure.subplots()
        for row in rows:
            frames = range(1, len(row["depth_mm"]) + 1)
            axes.semilogy(frames, row["depth_mm"], linewidth=0.8, label=f"along {row['along']}")
        axes.set(title=rows[0]["sequence"], xlabel="frame", ylabel="depth difference to the frame before, mm")
        axes.legend()


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
