"""Sequences of any layout, in the order of time."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.run import track
from gsplatloc.tracking.sequence import FRAME_RATE, read_sequence
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError


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


def tum_folder(root: Path, true_from: int) -> Path:
    """Five grey frames, a tenth of a second apart, whose truth begins at one of them: x is its index."""
    for kind, kept in (("rgb", np.uint8), ("depth", np.uint16)):
        (root / kind).mkdir()
        lines = []
        for index in range(5):
            cv2.imwrite(str(root / kind / f"{index}.png"), np.full((8, 8), 100, kept))
            lines.append(f"{index / 10} {kind}/{index}.png\n")
        (root / f"{kind}.txt").write_text("".join(lines))
    truth = [f"{index / 10} {index} 0 0 0 0 0 1\n" for index in range(true_from, 5)]
    (root / "groundtruth.txt").write_text("".join(truth))
    (root / "calibration.txt").write_text("8 8 3.5 3.5")
    return root


def test_a_sequence_begins_where_its_truth_does(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sequence = read_sequence(tum_folder(tmp_path, true_from=2))
    assert [view.timestamp for view in sequence.views] == [0.2, 0.3, 0.4]
    assert se3.camera_center(sequence.first_pose()).tolist() == [2, 0, 0]
    assert "skipped 2 images: before the first ground-truth pose" in capsys.readouterr().err


def test_fewer_than_two_frames_are_a_users_error(room_scene: Path) -> None:
    with pytest.raises(GSplatLocError, match="found 1"):
        read_sequence(room_scene, split="test", frames=slice(0, 1))
