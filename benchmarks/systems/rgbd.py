"""RGB-D tracking beside registration of point clouds, on the same frames, one after another in one process.

`tum_livingroom1` as a whole, and each of the three stretches of RedKitchen's test frames on its own. Every
method starts from the first true pose, predicts by constant velocity and uses no other ground truth.
*surface* needs none: the median disagreement of the depths of two frames, the first one moved by the
trajectory. Where the ground truth has discontinuities, errors are stated for each segment as well. Frames a
second are recorded with `--timed` only, on a machine that does nothing else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from benchmarks.harness import DATA, RESULTS
from benchmarks.harness.record import Record, RecordArguments, Row
from benchmarks.systems import agreement
from benchmarks.systems.cloud_registration import PEERS, CloudAligner, PeerOptions, package
from benchmarks.systems.rgbd_report import PUBLISHED, TRUTH, publish_rgbd
from gsplatloc.scene.trajectory import Trajectory, associate, write_tum_trajectory
from gsplatloc.tracking.discontinuities import discontinuities, segments
from gsplatloc.tracking.evaluation import TOLERANCE, trajectory_error
from gsplatloc.tracking.frames import load_frame
from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.run import make_aligner, track
from gsplatloc.tracking.sequence import RgbdSequence, read_sequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

OURS = "lm (ours)"
_STRETCH = 20  # test frames of RedKitchen in a row
_LEAST_FRAMES = 3  # of a segment whose error is stated: fewer fix no rigid motion

Method = Callable[[SurfaceMap], Aligner]


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
            surface = agreement.surface_mm(frames, self.truth)
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
            "surface_mm": agreement.surface_mm(self.frames, result.trajectory),
            "frames_per_second": len(self.frames) / result.seconds if self.arguments.timed else None,
            "lost": len(result.lost),
            "segments": segment_errors(estimate, self.truth),
        }, estimate

    def _compare_neighbours(self, estimates: dict[str, Trajectory]) -> None:
        """Agreement of neighbouring frames at the discontinuities, along every trajectory of this run."""
        frames = [self.frames[i] for i in self.known]
        found = {name: agreement.of_neighbours(frames, trajectory) for name, trajectory in estimates.items()}
        for along, series in found.items():
            for row in agreement.rows_of(discontinuities(self.truth), series):
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
