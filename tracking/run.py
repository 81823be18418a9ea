"""Tracking of a whole sequence: trajectory, map and metrics."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import report_later_iterations, save_gaussians
from gsplatloc.scene.map_config import write_cameras
from gsplatloc.scene.trajectory import Trajectory, write_tum_trajectory
from gsplatloc.tracking.evaluation import TrajectoryError, pairs, trajectory_error
from gsplatloc.tracking.frames import RgbdFrame, RgbdFrameOptions, load_frame
from gsplatloc.tracking.options import TrackingOptions, make_aligner
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.sequence import RgbdSequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.tracking.tracker import Tracker
from gsplatloc.utils.io import write_json


@dataclass(frozen=True)
class TrackingResult:
    """A tracked sequence."""

    trajectory: Trajectory
    surface: SurfaceMap
    keyframes: list[int]  # frames fused into the map
    lost: list[int]  # frames that could not be aligned
    seconds: float  # from the first image's file to the last pose, decoding and mapping included
    error: TrajectoryError | None  # against the ground truth, where there is one

    def metrics(self, sequence: RgbdSequence, options: TrackingOptions) -> dict:
        """The content of metrics.json."""
        return {
            "scene": sequence.name,
            "method": options.method,
            "frames": len(self.trajectory),
            "lost": len(self.lost),
            "keyframes": len(self.keyframes),
            "gaussians": len(self.surface),
            "frames_per_second": len(self.trajectory) / self.seconds,
            **({} if self.error is None else asdict(self.error)),
        }


@torch.no_grad()
def track(
    sequence: RgbdSequence,
    options: TrackingOptions,
    on_frame: Callable[[], None] = lambda: None,
    make: Callable[[SurfaceMap], Aligner] | None = None,
) -> TrackingResult:
    """Track every frame of a sequence; `on_frame` is called after each.

    `make` returns another aligner than `options.method`; it may use the map. Raises `GSplatLocError` if the
    ground truth and the frames do not overlap in time, before any frame is tracked.
    """
    if sequence.truth is not None:
        pairs(sequence.timestamps, sequence.truth.timestamps)
    surface = SurfaceMap(options.surface)
    aligner = make_aligner(options, surface) if make is None else make(surface)
    tracker = Tracker(aligner, surface, sequence.first_pose())
    begin = time.perf_counter()
    for frame in _prefetched(sequence.views, options.frames):
        tracker.add(frame)
        on_frame()
    seconds = time.perf_counter() - begin
    trajectory = Trajectory(sequence.timestamps, torch.stack(tracker.poses))
    error = None if sequence.truth is None else trajectory_error(trajectory, sequence.truth)
    return TrackingResult(trajectory, surface, tracker.keyframes, tracker.lost, seconds, error)


def write_result(
    folder: Path | str, sequence: RgbdSequence, options: TrackingOptions, result: TrackingResult
) -> None:
    """Write trajectory.txt, groundtruth.txt, metrics.json and the map, which render.py and view.py open."""
    folder = Path(folder)
    write_tum_trajectory(folder / "trajectory.txt", result.trajectory)
    if sequence.truth is not None:
        write_tum_trajectory(folder / "groundtruth.txt", sequence.truth)
    write_json(folder / "metrics.json", result.metrics(sequence, options))
    save_gaussians(folder, len(result.trajectory), result.surface.gaussians())
    report_later_iterations(folder, len(result.trajectory))
    poses = result.trajectory.cam_from_world
    write_cameras(folder, [sequence.views[index].with_pose(poses[index]) for index in result.keyframes])


def _prefetched(views: Sequence[View], options: RgbdFrameOptions) -> Iterator[RgbdFrame]:
    """Frames in order; the next one is decoded on another thread."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load_frame, views[0], options)
        for following in [*views[1:], None]:
            frame = coming.result()
            if following is not None:
                coming = pool.submit(load_frame, following, options)
            yield frame
