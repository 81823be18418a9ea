"""TUM trajectory files, and which stamps belong together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.scene.trajectory import Trajectory, associate, read_tum_trajectory, write_tum_trajectory
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError


def wave(count: int) -> Trajectory:
    tangents = torch.linspace(0, 1, count, dtype=torch.float64)[:, None] * torch.tensor(
        [[0.4, -0.2, 0.1, 0.3, 2.5, -0.1]], dtype=torch.float64
    )
    return Trajectory(1305031102.175304 + np.arange(count) / 30, se3.se3_exp(tangents))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_tum_trajectory(tmp_path / "trajectory.txt", wave(7))
    found = read_tum_trajectory(tmp_path / "trajectory.txt")
    np.testing.assert_array_equal(found.timestamps, wave(7).timestamps)
    torch.testing.assert_close(found.cam_from_world, wave(7).cam_from_world, atol=1e-8, rtol=0)


def test_the_file_says_where_the_camera_is(tmp_path: Path) -> None:
    half_turn_about_z = "0 0 1 0"
    (tmp_path / "t.txt").write_text(f"# a comment\n\n2.5, 1 2 3 {half_turn_about_z}\n")
    pose = read_tum_trajectory(tmp_path / "t.txt").cam_from_world[0]
    torch.testing.assert_close(se3.camera_center(pose), torch.tensor([1.0, 2, 3], dtype=torch.float64))
    torch.testing.assert_close(pose[:3, :3].diag(), torch.tensor([-1.0, -1, 1], dtype=torch.float64))


def test_poses_are_put_in_the_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("2 0 0 0 0 0 0 1\n1 5 0 0 0 0 0 1\n")
    found = read_tum_trajectory(tmp_path / "t.txt")
    assert found.timestamps.tolist() == [1, 2]
    assert se3.camera_center(found.cam_from_world)[:, 0].tolist() == [5, 0]


@pytest.mark.parametrize("line", ["1 2 3", "1 a 0 0 0 0 0 1", "1 0 0 0 0 0 0 0", "1 nan 0 0 0 0 0 1", ""])
def test_a_broken_line_is_a_users_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.txt").write_text(line + "\n")
    with pytest.raises(GSplatLocError, match=r"t\.txt"):
        read_tum_trajectory(tmp_path / "t.txt")


def test_a_file_that_is_no_text_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"1 0 0 0 0 0 0 1 # \xff\xfe\n")
    with pytest.raises(GSplatLocError, match="expected a text file"):
        read_tum_trajectory(tmp_path / "t.txt")


def test_a_missing_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected a text file"):
        read_tum_trajectory(tmp_path / "none.txt")


def test_stamps_pair_with_the_nearest() -> None:
    one, other = associate(np.array([0.0, 1.0, 2.0]), np.array([2.01, 0.004, 1.2, 0.99]), 0.02)
    assert one.tolist() == [0, 1, 2]
    assert other.tolist() == [1, 3, 0]


def test_a_stamp_is_used_once_by_the_closest_pair() -> None:
    one, other = associate(np.array([0.0, 0.01]), np.array([0.008]), 0.02)
    assert (one.tolist(), other.tolist()) == ([1], [0])


def test_stamps_too_far_apart_are_left_out() -> None:
    one, other = associate(np.array([0.0, 1.0]), np.array([0.5]), 0.1)
    assert len(one) == len(other) == 0
