"""Pose files of the 7-Scenes pseudo ground truth format."""

from pathlib import Path

import pytest
import torch

from gsplatloc.localization.io.poses import PoseRecord, read_poses, write_poses
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

POSE = se3.se3_exp(torch.tensor([0.1, 2.0, -30.0, 1.0, -2.0, 0.5], dtype=torch.float64))


def test_written_poses_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    write_poses(path, [PoseRecord("seq-01/a.png", POSE, 525.5), PoseRecord("b.jpg", torch.eye(4).double())])
    found = read_poses(path)
    assert list(found) == ["seq-01/a.png", "b.jpg"]
    torch.testing.assert_close(found["seq-01/a.png"].cam_from_world, POSE, atol=1e-7, rtol=0)
    assert found["seq-01/a.png"].focal == 525.5
    assert found["b.jpg"].focal is None


def test_line_order_is_that_of_the_published_files(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    write_poses(path, [PoseRecord("a.png", pose, 500.0)])
    assert path.read_text() == "a.png 1 0 0 0 1 2 3 500\n"


def test_trailing_error_columns_are_no_focal_length(tmp_path: Path) -> None:
    path = tmp_path / "estimate.txt"
    path.write_text("# comment\n\na.png 1 0 0 0 1 2 3 0.27 0.01\n")
    assert read_poses(path)["a.png"].focal is None


def test_empty_file_has_no_poses(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert read_poses(tmp_path / "empty.txt") == {}


@pytest.mark.parametrize("line", ["a.png 1 0 0 0 1 2", "a.png 1 0 0 zero 1 2 3"])
def test_bad_lines_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.txt").write_text(f"# header\n{line}\n")
    with pytest.raises(GSplatLocError, match="line 2"):
        read_poses(tmp_path / "bad.txt")


def test_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected a pose file"):
        read_poses(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "name",
    ["my photo 1.jpg", "50%.png", "50%20.png", "#1.jpg", "tab\tbed.png", "\ufeffa.png", "a\u2028b.png"],
)
def test_any_name_survives(tmp_path: Path, name: str) -> None:
    write_poses(tmp_path / "p.txt", [PoseRecord(name, POSE)])
    assert set(read_poses(tmp_path / "p.txt")) == {name}


def test_a_space_does_not_make_a_column(tmp_path: Path) -> None:
    write_poses(tmp_path / "p.txt", [PoseRecord("my photo.jpg", POSE, 500.0)])
    assert len((tmp_path / "p.txt").read_text().split()) == 9
