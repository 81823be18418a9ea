"""Coarse poses in the formats of other programs: each is told by its content and pairs with the images."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from torch import Tensor

from gsplatloc.localization.io import PoseFormat
from gsplatloc.localization.io.pose_files import ExternalPose, detect_format, image_number, read_pose_file
from gsplatloc.localization.io.poses import PoseRecord, write_poses
from gsplatloc.scene.trajectory import Trajectory, write_tum_trajectory
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

NAMES = ["seq-01-frame-000003.color.jpg", "seq-01-frame-000007.color.jpg", "seq-01-frame-000012.color.jpg"]
NUMBERS = [3, 7, 12]


def true_poses() -> Tensor:
    xi = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return se3.se3_exp(0.5 * xi)


def write_pgt(folder: Path) -> Path:
    path = folder / "poses.txt"
    write_poses(path, [PoseRecord(name, pose, 525.0) for name, pose in zip(NAMES, true_poses())])
    return path


def write_tum(folder: Path) -> Path:
    path = folder / "trajectory.txt"
    write_tum_trajectory(path, Trajectory(np.array(NUMBERS, float), true_poses()))
    return path


def write_colmap(folder: Path) -> Path:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="SIMPLE_RADIAL", width=64, height=48, params=[60, 32, 24, 0.1], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    for i, (name, pose) in enumerate(zip(NAMES, true_poses().numpy())):
        image = pycolmap.Image(name=name, camera_id=1, image_id=i + 1)
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:3, :3]), pose[:3, 3])
        model.add_image_with_trivial_frame(image, rigid)
    (folder / "model").mkdir()
    model.write_binary(str(folder / "model"))
    return folder / "model"


WRITERS = {"pgt": write_pgt, "tum": write_tum, "colmap": write_colmap}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_format_is_told_by_its_content(kind: PoseFormat, tmp_path: Path) -> None:
    assert detect_format(WRITERS[kind](tmp_path)) == kind


@pytest.mark.parametrize("kind", WRITERS)
def test_poses_are_read_as_they_were_written(kind: PoseFormat, tmp_path: Path) -> None:
    found = read_pose_file(WRITERS[kind](tmp_path), NAMES)
    assert list(found) == NAMES
    for pose, expected in zip(found.values(), true_poses()):
        assert torch.allclose(pose.cam_from_world, expected, atol=1e-7)


def test_intrinsics_come_along_where_the_file_has_them(tmp_path: Path) -> None:
    assert read_pose_file(write_pgt(tmp_path), NAMES)[NAMES[0]].focal == 525.0
    camera_model = read_pose_file(write_colmap(tmp_path), NAMES)[NAMES[0]].camera_model
    assert camera_model is not None and camera_model.distorted


def test_a_models_own_file_stands_for_its_folder(tmp_path: Path) -> None:
    assert len(read_pose_file(write_colmap(tmp_path) / "images.bin", NAMES)) == 3


def test_images_without_a_pose_are_absent(tmp_path: Path) -> None:
    assert list(read_pose_file(write_pgt(tmp_path), [*NAMES[:1], "another.png"])) == NAMES[:1]


def test_names_may_differ_in_suffix_and_slashes(tmp_path: Path) -> None:
    found = read_pose_file(write_pgt(tmp_path), ["seq-01/frame-000007.color.png"])
    assert torch.allclose(found["seq-01/frame-000007.color.png"].cam_from_world, true_poses()[1], atol=1e-7)


def test_a_folder_may_be_missing_on_one_side_but_not_differ(tmp_path: Path) -> None:
    write_poses(
        tmp_path / "a.txt", [PoseRecord("test/1.png", true_poses()[0]), PoseRecord("2.png", true_poses()[1])]
    )
    found = read_pose_file(tmp_path / "a.txt", ["1.png", "seq/2.png", "train/1.png"])
    assert list(found) == ["1.png", "seq/2.png"]


def test_numeric_names_are_no_timestamps(tmp_path: Path) -> None:
    """Both formats begin with a number here: where the unit quaternion stands tells them apart."""
    names = ["000003", "000007", "000012"]
    write_poses(tmp_path / "a.txt", [PoseRecord(name, pose) for name, pose in zip(names, true_poses())])
    assert detect_format(tmp_path / "a.txt") == "pgt"
    found = read_pose_file(tmp_path / "a.txt", [f"{name}.png" for name in names])
    assert torch.allclose(found["000007.png"].cam_from_world, true_poses()[1], atol=1e-7)


def test_timestamps_of_the_views_win_over_numbers_in_their_names(tmp_path: Path) -> None:
    found = read_pose_file(write_tum(tmp_path), ["b-12.png", "a-3.png"], stamps=[7.01, 12.5])
    assert list(found) == ["b-12.png"]
    assert torch.allclose(found["b-12.png"].cam_from_world, true_poses()[1], atol=1e-7)


@pytest.mark.parametrize(
    ("name", "number"),
    [("rgb/1305031102.175304.png", 1305031102.175304), ("a/frame-000040.color.jpg", 40), ("12.5", 12.5)],
)
def test_the_number_in_a_name(name: str, number: float) -> None:
    assert image_number(name) == number


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        (None, NAMES, "check --poses"),
        ("", NAMES, "found neither"),
        ("a b c\n", NAMES, "found neither"),
        ("1 0 0 0 1 0 0 0\n", NAMES, "see --format"),  # (0, 0, 0, 1) at both places
        ("other.png 1 0 0 0 0 0 0\n", NAMES, "pass poses of this scene"),
        ("99.5 0.3 0.2 0.1 0 0 0 1\n", NAMES, "pass the poses of this sequence"),
        ("3 0.3 0.2 0.1 0 0 0 1\n", ["a-3.png", "b-3.png"], "two alike"),
        ("3 0.3 0.2 0.1 0 0 0 1\n", ["photo.png"], "expected a time or frame number"),
        ("a/1.png 1 0 0 0 0 0 0\na-1.jpg 1 0 0 0 0 0 0\n", ["a-1.png"], "expected one pose of a-1.png"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    text: str | None, names: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "poses.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(GSplatLocError, match=message) as error:
        read_pose_file(path, names)
    assert str(error.value).startswith("expected ") and "\n" not in str(error.value)


def test_a_broken_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "images.bin").write_bytes(b"broken")
    with pytest.raises(GSplatLocError, match="expected cameras.bin beside images.bin") as error:
        read_pose_file(tmp_path, NAMES)
    assert "\n" not in str(error.value)


def test_an_asked_format_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected a COLMAP model"):
        read_pose_file(write_pgt(tmp_path), NAMES, "colmap")
    poses = read_pose_file(write_pgt(tmp_path), NAMES, "pgt")
    assert all(isinstance(pose, ExternalPose) for pose in poses.values())
