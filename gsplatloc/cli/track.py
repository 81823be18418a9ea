"""Track an RGB-D sequence and map it: `gsplatloc track -s SCENE -m OUT [--method lm|gsplatloc]`."""

import sys
from shlex import quote

from gsplatloc.arguments.tracking import TrackingArguments
from gsplatloc.tracking.run import TrackingResult, track, write_result
from gsplatloc.tracking.sequence import RgbdSequence, read_sequence
from gsplatloc.utils.console import ProgressBar, log
from gsplatloc.utils.locks import output_folder
from gsplatloc.visualization.tracking import save_tracking_picture, save_trajectory_plot


def main(arguments: TrackingArguments) -> None:
    """Run the command."""
    with output_folder(arguments.model_path):
        track_sequence(arguments)


def track_sequence(arguments: TrackingArguments) -> None:
    """Track the sequence; write its trajectory, map and pictures."""
    options = arguments.tracking()
    sequence = read_sequence(arguments.source_path, arguments.scene(), arguments.split, arguments.range())
    log(sequence.report, arguments.quiet, sys.stderr)
    with ProgressBar(len(sequence.views), "tracking", quiet=arguments.quiet) as bar:
        result = track(sequence, options, bar.advance)
    write_result(arguments.model_path, sequence, options, result)
    draw(arguments, sequence, result)
    log(summary(result))
    log(f"results    {arguments.model_path} (trajectory.txt, trajectory.png, map.png)", arguments.quiet)
    log(f"next       gsplatloc view -m {quote(str(arguments.model_path))}", arguments.quiet)


def draw(arguments: TrackingArguments, sequence: RgbdSequence, result: TrackingResult) -> None:
    """Draw the trajectory, and the map beside the middle image of the sequence."""
    folder = arguments.model_path
    save_trajectory_plot(folder / "trajectory.png", {arguments.method: result.trajectory}, sequence.truth)
    middle = len(sequence.views) // 2
    view = sequence.views[middle].with_pose(result.trajectory.cam_from_world[middle])
    view = result.frame.view_in_map(view)
    save_tracking_picture(folder / "map.png", result.surface.gaussians(), view)


def summary(result: TrackingResult) -> str:
    """The figures of a run in one line."""
    figures = [
        f"{len(result.trajectory)} frames at {len(result.trajectory) / result.seconds:.1f} a second",
        f"{len(result.surface)} Gaussians from {len(result.keyframes)} keyframes",
    ]
    if result.lost:
        figures.append(f"lost in {len(result.lost)} frames")
    if result.error is not None:
        error = result.error
        angle = "undefined (straight path)" if error.aae_deg is None else f"{error.aae_deg:.2f} degrees"
        figures.append(f"ATE RMSE {100 * error.ate_rmse_m:.2f} cm, AAE {angle}")
    return "; ".join(figures)
