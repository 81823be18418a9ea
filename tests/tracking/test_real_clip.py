"""The start of a real RGB-D clip, where the data is at hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.systems.rgbd import surface_mm
from gsplatloc.tracking.frames import load_frame
from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.run import track
from gsplatloc.tracking.sequence import read_sequence


def test_depth_agrees_better_along_the_estimate_than_along_the_files_truth(shared_data: Path) -> None:
    """That truth is an estimate itself, made offline: it is off by a tenth of a degree within 20 frames."""
    folder = shared_data / "tum_livingroom1"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the data folder")
    sequence = read_sequence(folder, frames=slice(0, 24))
    options = TrackingOptions()
    result = track(sequence, options)
    assert result.error is not None and not result.lost
    assert result.error.ate_rmse_unaligned_m < 0.006
    frames = [load_frame(view, options.frames) for view in sequence.views]
    assert sequence.truth is not None
    truth = sequence.truth.select(np.arange(len(frames)))
    ours = surface_mm(frames, result.trajectory)
    assert ours < 0.1 and ours < 0.5 * surface_mm(frames, truth)
