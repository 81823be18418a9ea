"""Pose files as people have them."""

from pathlib import Path

import pytest

from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.scene.trajectory import read_tum_trajectory
from gsplatloc.utils.errors import GSplatLocError

IDENTITY = "1 0 0 0 0 0 0"
PGT_ROWS = [
    "0 0 0 0 1 2 3",
    "nan 0 0 0 0 0 0",
    "1 0 0 0 inf 0 0",
    "1e-300 0 0 0 0 0 0",
    "1e200 1e200 0 0 0 0 0",
]


@pytest.mark.parametrize("row", PGT_ROWS)
def test_a_pose_that_is_none_is_one_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"a.png {IDENTITY}\nb.png {row}\n")
    with pytest.raises(GSplatLocError, match="line 2"):
        read_poses(path)
    path.write_text(f"0.5 1 2 3 {row.split()[0]} 0 0 0\n")
    if row.startswith(("0", "nan", "1e-300")):
        with pytest.raises(GSplatLocError, match="line 1"):
            read_tum_trajectory(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_not_change_the_first_name(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"a.png {IDENTITY}\r\nb.png {IDENTITY}\r\n", encoding=encoding)
    assert list(read_poses(path)) == ["a.png", "b.png"]
    assert list(read_pose_file(path, ["a.png"])) == ["a.png"]


def test_two_different_poses_of_a_name_are_an_error_and_a_repeated_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"a.png {IDENTITY}\na.png {IDENTITY}\n")
    assert list(read_poses(path)) == ["a.png"]
    path.write_text(f"a.png {IDENTITY}\na.png 1 0 0 0 0 0 1\n")
    with pytest.raises(GSplatLocError, match="found two that differ"):
        read_poses(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"\x80abc", b"x" * 1_000_000, b"a " * 500_000])
def test_other_files_are_one_short_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "poses.txt"
    path.write_bytes(content)
    for read in (read_poses, read_tum_trajectory, lambda path: read_pose_file(path, ["a.png"])):
        with pytest.raises(GSplatLocError) as error:
            read(path)
        assert len(str(error.value)) < 700
