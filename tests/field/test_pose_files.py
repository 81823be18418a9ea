"""Pose files as people have them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.localization.io.poses import read_poses
from gsplatloc.scene import read_scene
from gsplatloc.scene.readers.poses import read_numbers
from gsplatloc.scene.trajectory import read_tum_trajectory
from gsplatloc.utils.errors import GSplatLocError

IDENTITY = "1 0 0 0 0 0 0"
PGT_ROWS = [
    "0 0 0 0 1 2 3",
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
    if row.startswith(("0", "1e-300")):
        with pytest.raises(GSplatLocError, match="line 1"):
            read_tum_trajectory(path)


def test_images_whose_given_pose_is_not_finite_have_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"a.png nan nan nan nan nan nan nan\nb.png {IDENTITY}\nc.png 1 0 0 0 inf 0 0\n")
    assert list(read_pose_file(path, ["a.png", "b.png", "c.png"])) == ["b.png"]
    assert f"2 of 3 poses in {path} are not finite, and are left out" in capsys.readouterr().err


def test_poses_of_a_trajectory_that_are_not_finite_are_left_out_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "poses.txt"
    path.write_text("0 1 2 3 0 0 0 1\n1 nan nan nan nan nan nan nan\n2 4 5 inf 0 0 0 1\n3 4 5 6 0 0 0 1\n")
    assert read_tum_trajectory(path).timestamps.tolist() == [0, 3]
    assert f"2 of 4 poses in {path} are not finite, and are left out" in capsys.readouterr().err
    path.write_text("1 nan nan nan nan nan nan nan\n")
    with pytest.raises(GSplatLocError, match="found 1 that are not finite"):
        read_tum_trajectory(path)


@pytest.mark.parametrize(
    ("comment", "quaternion"),
    [
        ("#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []",
         "0.6,0.8,0,0,0.1,0.2"),  # EuRoC, with velocities behind
        ("# timestamp tx ty tz qw qx qy qz", "0.6 0.8 0 0"),
        ("# high-frequency ground truth: timestamp tx ty tz qw qx qy qz", "0.6 0.8 0 0"),
        ("# best quality. Columns: t, x, y, z, q_w, q_x, q_y, q_z", "0.6 0.8 0 0"),
        ("# high-frequency: timestamp tx ty tz qx qy qz qw, as qx qy qz qw of TUM", "0.8 0 0 0.6"),
        ("# timestamp tx ty tz qx qy qz qw", "0.8 0 0 0.6"),
        ("# ground truth of a quiet, wide room", "0.8 0 0 0.6"),
    ],
)  # fmt: skip
def test_the_columns_of_a_quaternion_are_those_that_a_comment_names(
    tmp_path: Path, comment: str, quaternion: str
) -> None:
    path = tmp_path / "poses.txt"
    separator = "," if "," in quaternion else " "
    path.write_text(f"{comment}\n{separator.join(['5', '1', '2', '3', quaternion])}\n")
    turned = torch.tensor([[1, 0, 0], [0, -0.28, -0.96], [0, 0.96, -0.28]], dtype=torch.float64)
    found = read_tum_trajectory(path).cam_from_world[0]
    assert torch.allclose(found[:3, :3].T, turned)
    assert torch.allclose(-found[:3, :3].T @ found[:3, 3], torch.tensor([1.0, 2, 3], dtype=torch.float64))


def test_tables_with_more_columns_are_trajectories_if_they_name_them(tmp_path: Path) -> None:
    """As EuRoC's, with velocities and biases."""
    head, row = "#timestamp, p_x, p_y, p_z, q_w, q_x, q_y, q_z, v_x, v_y", "0,1,2,3,0.6,0.8,0,0,0.1,0.2"
    path = tmp_path / "data.csv"
    path.write_text(f"{head}\n{row}\n")
    pose = read_pose_file(path, ["0.png"])["0.png"].cam_from_world
    assert torch.allclose(-pose[:3, :3].T @ pose[:3, 3], torch.tensor([1.0, 2, 3], dtype=torch.float64))
    path.write_text(f"{row}\n")
    with pytest.raises(GSplatLocError, match="found neither"):
        read_pose_file(path, ["0.png"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_not_change_the_first_name(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"a.png {IDENTITY}\r\nb.png {IDENTITY}\r\n", encoding=encoding)
    assert list(read_poses(path)) == ["a.png", "b.png"]
    assert list(read_pose_file(path, ["a.png"])) == ["a.png"]


def test_a_comma_may_be_a_decimal_point_or_in_a_name(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    path.write_text("1,5 0,25 -1,5e0 2 0 0 0,6 0,8\n2,5 0,25 -1,5e0 2 0 0 0,6 0,8\n")
    centers = [-pose.cam_from_world[:3, :3].T @ pose.cam_from_world[:3, 3]
               for pose in read_pose_file(path, ["1.5.png", "2.5.png"]).values()]  # fmt: skip
    assert torch.allclose(torch.stack(centers), torch.tensor([[0.25, -1.5, 2.0]] * 2, dtype=torch.float64))
    path.write_text("1.5,0.25,-1.5,2,0,0,0.6,0.8\n2.5, 0.25, -1.5, 2, 0, 0, 0.6, 0.8\n")
    assert len(read_pose_file(path, ["1.5.png", "2.5.png"])) == 2
    path.write_text("Rome, Italy.png 1 0 0 0 1 2 3\n".replace(", ", ",_"))
    assert list(read_pose_file(path, ["Rome,_Italy.png"])) == ["Rome,_Italy.png"]
    path.write_text("525,5 525,5\n319,5 239,5\n")
    assert read_numbers(path).tolist() == [525.5, 525.5, 319.5, 239.5]


@pytest.mark.parametrize("row", ["1 2 3 4 5 6 7 8", "1 0 0 0 0 0 0 0.5", "1 0 0 0 0 1 0 2"])
def test_columns_of_something_else_are_no_trajectory(tmp_path: Path, row: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"{row}\n")
    with pytest.raises(GSplatLocError, match=r"unit quaternion in .*poses\.txt, line 1"):
        read_tum_trajectory(path)


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


def write_colmap(folder: Path, names: list[str]) -> Path:
    """A COLMAP model of images that all have the pose of their row."""
    (folder / "sparse" / "0").mkdir(parents=True)
    (folder / "images").mkdir()
    rows = []
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / "images" / name), np.zeros((48, 64, 3), np.uint8))
        rows.append(f"{index + 1} 1 0 0 0 0 0 {index} 1 {name}\n\n")
    (folder / "sparse" / "0" / "cameras.txt").write_text("1 PINHOLE 64 48 50 50 32 24\n")
    (folder / "sparse" / "0" / "images.txt").write_text("".join(rows))
    (folder / "sparse" / "0" / "points3D.txt").write_text("")
    return folder


def test_an_image_that_a_model_has_twice_is_an_error(tmp_path: Path) -> None:
    model = write_colmap(tmp_path, ["a.png", "b.png", "a.png"])
    with pytest.raises(GSplatLocError, match=r"a\.png twice"):
        read_pose_file(model / "sparse" / "0", ["a.png"])
    with pytest.raises(GSplatLocError, match=r"a\.png twice"):
        read_scene(model)


def test_of_poses_at_one_time_the_first_is_used_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "poses.txt"
    rest = "0 0 0 0 0 1"
    path.write_text(f"1.5 1 {rest}\n0.5 0 {rest}\n1.5 1 {rest}\n")
    assert len(read_tum_trajectory(path)) == 2
    assert capsys.readouterr().err == ""
    path.write_text(f"1.5 7 {rest}\n0.5 0 {rest}\n1.5 1 {rest}\n")
    trajectory = read_tum_trajectory(path)
    assert trajectory.cam_from_world[:, 0, 3].tolist() == [0, -7]
    assert "several poses at the time 1.5" in capsys.readouterr().err


def test_files_of_one_name_in_posed_folders_are_said(tmp_path: Path) -> None:
    for file, text in (
        ("poses/1.txt", "1 0 0 5 0 1 0 0 0 0 1 0"),
        ("poses/1.pose.txt", "1 0 0 3 0 1 0 0 0 0 1 0"),
        ("calibration/1.txt", "50"),
    ):
        path = tmp_path / "train" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "train" / "rgb").mkdir()
    cv2.imwrite(str(tmp_path / "train" / "rgb" / "1.png"), np.zeros((48, 64, 3), np.uint8))
    scene = read_scene(tmp_path)
    assert scene.train[0].cam_from_world[0, 3] == -3
    assert "1.txt is not used, because 1.pose.txt has the same name" in scene.report
