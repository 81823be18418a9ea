"""Layout 5: Replica as SLAM papers distribute it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

PARAMETERS = {"camera": {"w": 48, "h": 32, "fx": 40, "fy": 41, "cx": 23.5, "cy": 15.5, "scale": 6553.5}}


def write(root: Path, frames: int = 3, poses: int = 3) -> Path:
    """Frames that walk along x, a metre each."""
    (root / "results").mkdir(parents=True)
    for index in range(frames):
        image, depth = np.full((32, 48, 3), 10 * index, np.uint8), np.full((32, 48), 13107, np.uint16)
        cv2.imwrite(str(root / "results" / f"frame{index:06d}.jpg"), image)
        cv2.imwrite(str(root / "results" / f"depth{index:06d}.png"), depth)
    matrices = np.tile(np.eye(4), (poses, 1, 1))
    matrices[:, 0, 3] = np.arange(poses)
    (root / "traj.txt").write_text("\n".join(" ".join(map(str, m.flatten())) for m in matrices) + "\n")
    (root / "cam_params.json").write_text(json.dumps(PARAMETERS))
    return root


def test_frames_pair_with_lines_of_the_trajectory(tmp_path: Path) -> None:
    views = read_scene(write(tmp_path)).train
    assert [view.name for view in views] == [f"frame{i:06d}.jpg" for i in range(3)]
    assert [se3.camera_center(view.cam_from_world)[0].item() for view in views] == [0, 1, 2]


def test_depth_is_in_the_scenes_units(tmp_path: Path) -> None:
    load_depth = read_scene(write(tmp_path)).train[0].load_depth
    assert load_depth is not None
    np.testing.assert_allclose(load_depth(), 2.0)


def test_principal_point_is_counted_from_the_corner(tmp_path: Path) -> None:
    camera = read_scene(write(tmp_path)).train[0].camera
    assert (camera.width, camera.height, camera.fx, camera.fy) == (48, 32, 40, 41)
    assert (camera.cx, camera.cy) == (24, 16)


def test_parameters_may_lie_in_the_folder_above(tmp_path: Path) -> None:
    root = write(tmp_path / "room0")
    (root / "cam_params.json").rename(tmp_path / "cam_params.json")
    assert len(read_scene(root).train) == 3


def test_every_eighth_frame_is_held_out_on_demand(tmp_path: Path) -> None:
    scene = read_scene(write(tmp_path, frames=9, poses=9), SceneOptions(eval=True))
    assert (len(scene.train), len(scene.test)) == (7, 2)


def test_a_lost_pose_is_left_out_with_a_count(tmp_path: Path) -> None:
    path = write(tmp_path) / "traj.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("1.0", "nan"), lines[2]]))
    scene = read_scene(tmp_path)
    assert len(scene.train) == 2
    assert "left out 1 (their poses are not finite)" in scene.report


def test_missing_parameters_are_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path / "room0") / "cam_params.json").unlink()
    with pytest.raises(GSplatLocError, match=r"expected cam_params\.json"):
        read_scene(tmp_path / "room0")


def test_parameters_without_a_scale_are_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path) / "cam_params.json").write_text(json.dumps({"camera": {"w": 48, "h": 32}}))
    with pytest.raises(GSplatLocError, match="w h fx fy cx cy scale"):
        read_scene(tmp_path)


@pytest.mark.parametrize("name", ["w", "fx", "scale"])
def test_parameters_that_are_not_positive_are_a_users_error(tmp_path: Path, name: str) -> None:
    content = {"camera": PARAMETERS["camera"] | {name: 0}}
    (write(tmp_path) / "cam_params.json").write_text(json.dumps(content))
    with pytest.raises(GSplatLocError, match="expected positive w h fx fy scale"):
        read_scene(tmp_path)


def test_fewer_poses_than_frames_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected a pose for each image"):
        read_scene(write(tmp_path, poses=2))


def test_a_torn_trajectory_is_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path) / "traj.txt").write_text("1 0 0")
    with pytest.raises(GSplatLocError, match="4x4 camera-to-world"):
        read_scene(tmp_path)
