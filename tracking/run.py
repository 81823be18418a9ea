"""Tracking of a whole sequence: trajectory, map and metrics."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from gsplatloc.mapping.depth_check import warn_of_scale
from gsplatloc.scene.cameras import View
from gsplatloc.scene.export import report_later_iterations, save_gaussians
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.scene.map_frame import MapFrame, local_origin, usual_unit
from gsplatloc.scene.trajectory import Trajectory, write_tum_trajectory
from gsplatloc.tracking.evaluation import TrajectoryError, pairs, path_scale, trajectory_error
from gsplatloc.tracking.frames import RgbdFrame, load_frame
from gsplatloc.tracking.gsplatloc import GsplatLocAligner
from gsplatloc.tracking.intrinsics import warn_of_focal_length
from gsplatloc.tracking.lm import KeyframeAligner
from gsplatloc.tracking.options import RgbdFrameOptions, TrackingOptions
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.sequence import RgbdSequence
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.tracking.tracker import Tracker
from gsplatloc.utils.io import write_json


@dataclass(frozen=True)
class TrackingResult:
    """A tracked sequence."""

    trajectory: Trajectory
    surface: SurfaceMap  # in the coordinates `frame`
    keyframes: list[int]  # frames fused into the map
    lost: list[int]  # frames that could not be aligned
    seconds: float  # from the first image's file to the last pose, decoding and mapping included
    error: TrajectoryError | None  # against the ground truth, where there is one
    frame: MapFrame = field(default_factory=MapFrame)

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
    surface, coordinates = SurfaceMap(options.surface), _map_frame(sequence)
    aligner = make_aligner(options, surface) if make is None else make(surface)
    tracker = Tracker(aligner, surface, coordinates.pose_in_map(sequence.first_pose()))
    begin = time.perf_counter()
    views = [coordinates.view_in_map(view) for view in sequence.views]
    for frame in _prefetched(views, options.frames):
        tracker.add(frame)
        on_frame()
    seconds = time.perf_counter() - begin
    poses = coordinates.pose_in_world(torch.stack(tracker.poses))
    trajectory = Trajectory(sequence.timestamps, poses)
    error = None
    if sequence.truth is not None:
        error = trajectory_error(trajectory, sequence.truth)
        scale = path_scale(trajectory, sequence.truth)
        if scale is not None:
            warn_of_scale(sequence.views, scale, "the tracked path", "as long as the ground truth")
    return TrackingResult(trajectory, surface, tracker.keyframes, tracker.lost, seconds, error, coordinates)


def _map_frame(sequence: RgbdSequence) -> MapFrame:
    """The coordinates of tracking: near the origin, in a unit in which the first depths have usual size."""
    poses = sequence.first_pose()[None] if sequence.truth is None else sequence.truth.cam_from_world
    load_depth = sequence.views[0].load_depth
    depth = np.zeros(0) if load_depth is None else load_depth()
    known = depth[depth > 0]
    return MapFrame(local_origin(poses), usual_unit(float(np.median(known)) if len(known) else None))


def write_result(
    folder: Path | str, sequence: RgbdSequence, options: TrackingOptions, result: TrackingResult
) -> None:
    """Write trajectory.txt, groundtruth.txt, metrics.json, config.json and the map, for gsplatloc render.

    Then warn on stderr if the frames show another focal length than the given one.
    """
    folder = Path(folder)
    write_tum_trajectory(folder / "trajectory.txt", result.trajectory)
    if sequence.truth is not None:
        write_tum_trajectory(folder / "groundtruth.txt", sequence.truth)
    write_json(folder / "metrics.json", result.metrics(sequence, options))
    save_gaussians(folder, len(result.trajectory), result.surface.gaussians())
    report_later_iterations(folder, len(result.trajectory))
    write_config(folder, MapConfig(str(sequence.root.resolve()), frame=result.frame))
    poses = result.frame.pose_in_map(result.trajectory.cam_from_world)
    write_cameras(folder, [sequence.views[index].with_pose(poses[index]) for index in result.keyframes])
    warn_of_focal_length(sequence.views)  # last: whatever it meets, the trajectory is there


def _prefetched(views: Sequence[View], options: RgbdFrameOptions) -> Iterator[RgbdFrame]:
    """Frames in order; the next one is decoded on another thread."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load_frame, views[0], options)
        for following in [*views[1:], None]:
            frame = coming.result()
            if following is not None:
                coming = pool.submit(load_frame, following, options)
            yield frame


def make_aligner(options: TrackingOptions, surface: SurfaceMap) -> Aligner:
    """The aligner called `options.method`; it may use the map that is being made."""
    if options.method == "gsplatloc":
        return GsplatLocAligner(surface, options.gsplatloc)
    return KeyframeAligner(options.lm)
