"""Layout 4: TUM RGB-D folders, whose files are found by time."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.images import undistorted_camera
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.tum_rgbd import read_calibration, read_frames
from gsplatloc.tracking.sequence import read_sequence
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

WIDTH, HEIGHT = 40, 32


def write(root: Path, poses: int = 3) -> Path:
    """Three frames: the colour camera at 1.0, 1.1, 1.2 s, depth 4 ms and the truth 2 ms later."""
    (root / "rgb").mkdir(parents=True)
    (root / "depth").mkdir()
    for index in range(3):
        cv2.imwrite(str(root / "rgb" / f"{index}.png"), np.full((HEIGHT, WIDTH, 3), 10 * index, np.uint8))
        cv2.imwrite(str(root / "depth" / f"{index}.png"), np.full((HEIGHT, WIDTH), 10_000, np.uint16))
    stamps = [1.0, 1.1, 1.2]
    (root / "rgb.txt").write_text("# colour\n" + "".join(f"{t} rgb/{i}.png\n" for i, t in enumerate(stamps)))
    (root / "depth.txt").write_text("".join(f"{t + 0.004} depth/{i}.png\n" for i, t in enumerate(stamps)))
    lines = (f"{t + 0.002} {i} 0 0 0 0 0 1\n" for i, t in enumerate(stamps[:poses]))
    (root / "groundtruth.txt").write_text("# truth\n" + "".join(lines))
    (root / "calibration.txt").write_text("50 51 19.5 15.5\n")
    return root


def test_files_of_one_time_make_a_view(tmp_path: Path) -> None:
    views = read_scene(write(tmp_path)).train
    assert [view.name for view in views] == ["rgb/0.png", "rgb/1.png", "rgb/2.png"]
    assert [view.timestamp for view in views] == [1.0, 1.1, 1.2]
    assert [se3.camera_center(view.cam_from_world)[0].item() for view in views] == [0, 1, 2]
    assert views[2].load_image()[0, 0].tolist() == [20, 20, 20]


def test_depth_is_in_units_of_a_fifth_of_a_millimetre(tmp_path: Path) -> None:
    load_depth = read_scene(write(tmp_path)).train[0].load_depth
    assert load_depth is not None
    np.testing.assert_allclose(load_depth(), 2.0)


def test_principal_point_is_counted_from_the_corner(tmp_path: Path) -> None:
    camera = read_scene(write(tmp_path)).train[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (50, 51, 20, 16)


def test_frames_without_a_pose_are_left_out_with_a_count(tmp_path: Path) -> None:
    scene = read_scene(write(tmp_path, poses=2))
    assert len(scene.train) == 2
    assert "left out 1 (no pose within 0.02 s)" in scene.report


def test_frames_are_read_without_a_truth(tmp_path: Path) -> None:
    (write(tmp_path) / "groundtruth.txt").unlink()
    frames = read_frames(tmp_path, SceneOptions(), Tally())
    assert len(frames) == 3 and torch.equal(frames[1].cam_from_world, torch.eye(4, dtype=torch.float64))


def test_a_sequence_of_colour_alone_is_a_scene(tmp_path: Path) -> None:
    """As programs for one camera, such as ORB-SLAM, take and write them."""
    (write(tmp_path) / "depth.txt").unlink()
    views = read_scene(tmp_path).train
    assert [view.timestamp for view in views] == [1.0, 1.1, 1.2]
    assert all(view.load_depth is None for view in views)
    with pytest.raises(GSplatLocError, match="expected at least two images with depth"):
        read_sequence(tmp_path)


def test_a_scene_without_truth_is_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path) / "groundtruth.txt").unlink()
    with pytest.raises(GSplatLocError, match=r"expected groundtruth\.txt"):
        read_scene(tmp_path)


def test_a_truth_of_other_times_is_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path) / "groundtruth.txt").write_text("99 0 0 0 0 0 0 1\n")
    with pytest.raises(GSplatLocError, match="of this sequence"):
        read_scene(tmp_path)


def test_depth_of_other_times_is_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path) / "depth.txt").write_text("99 depth/0.png\n")
    with pytest.raises(GSplatLocError, match="at the same times"):
        read_scene(tmp_path)


def test_a_line_without_a_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "rgb.txt").write_text("# colour\n1.0\n")
    with pytest.raises(GSplatLocError, match=r"rgb\.txt, line 2"):
        read_scene(tmp_path)


def test_an_unknown_camera_is_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path / "kitchen") / "calibration.txt").unlink()
    with pytest.raises(GSplatLocError, match=r"expected calibration\.txt"):
        read_scene(tmp_path / "kitchen")


def test_a_broken_calibration_is_a_users_error(tmp_path: Path) -> None:
    (write(tmp_path) / "calibration.txt").write_text("50 51 20")
    with pytest.raises(GSplatLocError, match="found 3 numbers"):
        read_scene(tmp_path)


def test_cameras_of_the_benchmark_are_known_by_the_folders_name(tmp_path: Path) -> None:
    root = tmp_path / "rgbd_dataset_freiburg1_desk"
    (write(root) / "calibration.txt").unlink()
    camera_model = read_calibration(root, root / "rgb" / "0.png")
    assert camera_model.distorted and camera_model.params[:5] == (517.3, 516.5, 319.1, 255.8, 0.2624)


def test_distortion_is_undone(tmp_path: Path) -> None:
    (write(tmp_path) / "calibration.txt").write_text("50 51 19.5 15.5 0.2 0 0 0")
    camera_model = read_calibration(tmp_path, tmp_path / "rgb" / "0.png")
    assert read_scene(tmp_path).train[0].camera == undistorted_camera(camera_model)
