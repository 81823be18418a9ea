"""Discontinuities of a trajectory, and steps that a camera might have made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.scene.trajectory import Trajectory
from gsplatloc.tracking.discontinuities import discontinuities, segments, steps
from gsplatloc.tracking.sequence import read_sequence
from gsplatloc.utils import se3

JUMP = torch.tensor([0.012, -0.01, 0.006, 0.006, -0.004, 0.002], dtype=torch.float64)


def walk(count: int = 60, jump_at: tuple[int, ...] = (), shake: float = 3e-5) -> Trajectory:
    """A camera carried along a curve by a slightly shaking hand, moved by `JUMP` from each frame on."""
    time = torch.arange(count, dtype=torch.float64)[:, None]
    velocity = torch.tensor([[0.015, -0.004, 0.01, 0.004, 0.012, -0.003]], dtype=torch.float64)
    noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = se3.se3_exp(time * velocity + 0.03 * torch.sin(time / 9) + shake * noise)
    for first in jump_at:
        poses = torch.cat([poses[:first], se3.se3_exp(JUMP) @ poses[first:]])
    return Trajectory(np.arange(count) / 30, poses)


def test_a_jump_is_found_where_it_is() -> None:
    assert discontinuities(walk(jump_at=(17, 40))) == [17, 40]
    assert segments(walk(jump_at=(17, 40))) == [range(0, 17), range(17, 40), range(40, 60)]


def test_a_smooth_walk_is_one_segment() -> None:
    assert discontinuities(walk()) == []
    assert segments(walk()) == [range(60)]


def test_the_step_has_the_size_of_the_jump() -> None:
    found = steps(walk(jump_at=(30,), shake=0))[29].item()
    assert found == pytest.approx((JUMP[:3].norm() + JUMP[3:].norm()).item(), rel=0.05)


def test_a_camera_that_stands_still_and_then_moves_has_no_discontinuity() -> None:
    still = torch.eye(4, dtype=torch.float64).expand(20, 4, 4)
    moving = se3.se3_exp(torch.arange(10, dtype=torch.float64)[:, None] * 0.004 * torch.ones(6).double())
    assert discontinuities(Trajectory(np.arange(30) / 30, torch.cat([still, moving]))) == []


def test_motion_over_a_gap_in_time_is_no_discontinuity() -> None:
    whole = walk()
    kept = np.r_[0:20, 35:60]
    assert discontinuities(whole.select(kept)) == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames_have_no_discontinuity(count: int) -> None:
    assert segments(walk(count)) == [range(count)]


def test_the_truth_of_the_real_clip_is_made_of_three_segments(shared_data: Path) -> None:
    folder = shared_data / "tum_livingroom1"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the data folder")
    truth = read_sequence(folder).truth
    assert truth is not None and discontinuities(truth) == [100, 200]


def test_the_truth_of_redkitchen_has_no_discontinuity(shared_data: Path) -> None:
    folder = shared_data / "pgt_7scenes_redkitchen"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the data folder")
    for split in ("train", "test"):
        truth = read_sequence(folder, split=split).truth
        assert truth is not None and discontinuities(truth) == []
