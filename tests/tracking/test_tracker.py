"""Tracking a clip whose every pose is known."""

from typing import Any

import numpy as np
import pytest
import torch

from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.evaluation import trajectory_error
from gsplatloc.tracking.frames import prepare
from gsplatloc.tracking.lm import KeyframeAligner
from gsplatloc.tracking.options import KeyframeOptions, TrackingOptions
from gsplatloc.tracking.protocol import Tracked
from gsplatloc.tracking.run import make_aligner
from gsplatloc.tracking.surface import SurfaceMap
from gsplatloc.tracking.tracker import Tracker, predicted
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.tracking.conftest import CAMERA, FRAMES, Clip, make_clip


def tracked(clip: Clip, options: TrackingOptions) -> Tracker:
    surface = SurfaceMap(options.surface)
    tracker = Tracker(make_aligner(options, surface), surface, clip.truth.cam_from_world[0])
    with torch.no_grad():
        for frame in clip.frames:
            tracker.add(frame)
    return tracker


def error_m(tracker: Tracker, clip: Clip) -> float:
    stamps = clip.truth.timestamps[: len(tracker.poses)]
    return trajectory_error(Trajectory(stamps, torch.stack(tracker.poses)), clip.truth).ate_rmse_unaligned_m


@pytest.mark.parametrize(
    ("options", "limit_m"),
    [
        (KeyframeOptions(), 0.002),
        (KeyframeOptions(colour_weight=0), 0.01),
        (KeyframeOptions(depth_weight=0), 0.008),
    ],
    ids=["both", "depth", "colour"],
)
def test_lm_finds_the_trajectory(clip: Clip, options: KeyframeOptions, limit_m: float) -> None:
    """22 cm and 11 degrees of motion in images of 160 x 128."""
    tracker = tracked(clip, TrackingOptions(frames=FRAMES, lm=options))
    assert error_m(tracker, clip) < limit_m
    assert not tracker.lost


def test_lm_stands_noise_that_grows_with_the_square_of_depth() -> None:
    clip = make_clip(noise=0.003)
    assert error_m(tracked(clip, TrackingOptions(frames=FRAMES)), clip) < 0.006


def test_lm_makes_a_keyframe_where_the_view_is_new(clip: Clip) -> None:
    few = tracked(
        clip, TrackingOptions(frames=FRAMES, lm=KeyframeOptions(keyframe_shift=1, keyframe_overlap=0))
    )
    many = tracked(clip, TrackingOptions(frames=FRAMES, lm=KeyframeOptions(keyframe_shift=0.02)))
    assert few.keyframes == [0]
    assert len(many.keyframes) > 5


def test_a_frame_without_anything_in_common_is_lost_and_changes_nothing(clip: Clip) -> None:
    surface = SurfaceMap()
    tracker = Tracker(KeyframeAligner(), surface)
    blind = prepare(
        "blind", np.zeros((128, 160, 3), np.uint8), np.zeros((128, 160), np.float32), CAMERA, FRAMES
    )
    with torch.no_grad():
        for frame in (clip.frames[0], clip.frames[1], blind):
            tracker.add(frame)
    assert tracker.lost == [2]
    assert torch.equal(tracker.poses[2], tracker.poses[1])


def test_a_first_frame_without_depth_is_a_users_error() -> None:
    blind = prepare(
        "blind", np.zeros((128, 160, 3), np.uint8), np.zeros((128, 160), np.float32), CAMERA, FRAMES
    )
    with pytest.raises(GSplatLocError, match="expected depth in the first frame"):
        Tracker(KeyframeAligner(), SurfaceMap()).add(blind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour_weight": 0, "depth_weight": 0}, "nothing is compared"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GSplatLocError, match=message):
        KeyframeOptions(**options)


def test_constant_velocity_goes_on_as_before() -> None:
    step = se3.se3_exp(torch.tensor([0.1, 0, 0.02, 0, 0.05, 0], dtype=torch.float64))
    poses = [torch.eye(4, dtype=torch.float64), step]
    torch.testing.assert_close(predicted(poses), step @ step)


def test_predictions_stay_rotations() -> None:
    """Extrapolating doubles what inversion by transposition makes of a rotation that is not quite one."""
    poses = [torch.eye(4, dtype=torch.float64)]
    poses.append(se3.se3_exp(torch.full((6,), 0.01, dtype=torch.float64)) * (1 + 1e-9))
    for _ in range(200):
        poses.append(predicted(poses))
    rotation = poses[-1][:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))


def test_aligners_see_no_truth(clip: Clip) -> None:
    """Each frame starts where the estimates before it lead, however wrong they are."""
    starts = []

    class Wrong:
        def start(self, frame: object, cam_from_world: torch.Tensor) -> None: ...

        def track(self, frame: object, predicted: torch.Tensor) -> Tracked:
            starts.append(predicted[0, 3].item())
            return Tracked(predicted + torch.tensor([[0, 0, 0, 1.0]] + [[0.0] * 4] * 3, dtype=torch.float64))

    tracker = Tracker(Wrong(), SurfaceMap())
    for frame in clip.frames[:4]:
        tracker.add(frame)
    assert starts == pytest.approx([0, 2, 5])
