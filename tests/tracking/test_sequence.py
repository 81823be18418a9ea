"""Sequences of any layout, in the order of time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracking.options import TrackingOptions
from tracking.run import track
from tracking.sequence import FRAME_RATE, read_sequence
from utils.errors import GSplatLocError


def test_layouts_without_times_count_frames(room_scene: Path) -> None:
    sequence = read_sequence(room_scene, split="train")
    assert len(sequence.views) == 24
    assert np.all(np.diff(sequence.timestamps) > 0)
    assert np.diff(sequence.timestamps).min() == pytest.approx(1 / FRAME_RATE)


def test_a_range_is_taken_of_a_split(room_scene: Path) -> None:
    whole = read_sequence(room_scene, split="test")
    part = read_sequence(room_scene, split="test", frames=slice(2, 5))
    assert [view.name for view in part.views] == [view.name for view in whole.views[2:5]]
    np.testing.assert_array_equal(part.timestamps, whole.timestamps[2:5])


def test_first_pose_is_the_truths(room_scene: Path) -> None:
    sequence = read_sequence(room_scene, split="train")
    assert sequence.truth is not None
    assert torch.equal(sequence.first_pose(), sequence.views[0].cam_from_world)


def test_a_truth_of_other_times_is_told_before_anything_is_tracked(room_scene: Path) -> None:
    sequence = read_sequence(room_scene, split="test")
    assert sequence.truth is not None
    later = replace(sequence.truth, timestamps=sequence.truth.timestamps + 1000)
    with pytest.raises(GSplatLocError, match="another sequence"):
        track(replace(sequence, truth=later), TrackingOptions(), on_frame=lambda: pytest.fail("tracked"))


def test_fewer_than_two_frames_are_a_users_error(room_scene: Path) -> None:
    with pytest.raises(GSplatLocError, match="found 1"):
        read_sequence(room_scene, split="test", frames=slice(0, 1))
