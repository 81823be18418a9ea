"""Layout 3: transforms.json in the dialects of NeRF, instant-ngp and nerfstudio."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import SparsePoints, View
from gsplatloc.scene.images import CameraModel, undistorted_camera
from gsplatloc.scene.readers.point_cloud import write_points
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

WIDTH, HEIGHT = 60, 80
INTRINSICS = {"fl_x": 90.0, "fl_y": 91.0, "cx": 31.0, "cy": 38.5, "w": float(WIDTH), "h": float(HEIGHT)}
IDENTITY = np.eye(4).tolist()


def save_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def frame(name: str, pose: Any = IDENTITY, **extra: Any) -> dict[str, Any]:
    return {"file_path": name, "transform_matrix": pose, **extra}


def write(root: Path, frames: list[dict[str, Any]], name: str = "transforms.json", **top: Any) -> Path:
    for entry in frames:
        save_image(root / entry["file_path"])
    (root / name).write_text(json.dumps({**(top or INTRINSICS), "frames": frames}))
    return root


def test_opengl_axes_become_opencv_axes(tmp_path: Path) -> None:
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    view = read_scene(write(tmp_path, [frame("images/a.png", pose.tolist())])).train[0]
    # OpenGL looks along -z with y up: a point ahead of and above the camera is at +z and -y for OpenCV
    point = view.cam_from_world @ torch.tensor([1.0, 2.5, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(point[:3], torch.tensor([0.0, -0.5, 4.0], dtype=torch.float64))
    torch.testing.assert_close(
        se3.camera_center(view.cam_from_world), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    )


def test_shared_intrinsics_give_way_to_a_frames_own(tmp_path: Path) -> None:
    frames = [frame("images/a.png"), frame("images/b.png", fl_x=50.0, fl_y=51.0, cx=20.0)]
    first, second = read_scene(write(tmp_path, frames)).train
    assert (first.camera.fx, first.camera.fy, first.camera.cx, first.camera.cy) == (90.0, 91.0, 31.0, 38.5)
    assert (second.camera.fx, second.camera.fy, second.camera.cx, second.camera.cy) == (
        50.0,
        51.0,
        20.0,
        38.5,
    )


def test_a_field_of_view_stands_in_for_a_focal_length(tmp_path: Path) -> None:
    camera = read_scene(write(tmp_path, [frame("a.png")], camera_angle_x=math.radians(60))).train[0].camera
    assert camera.fx == camera.fy == pytest.approx(WIDTH / 2 / math.tan(math.radians(30)))
    assert (camera.cx, camera.cy) == (WIDTH / 2, HEIGHT / 2)


def test_distortion_is_opencvs(tmp_path: Path) -> None:
    distortion = {"k1": 0.05, "k2": -0.08, "p1": -0.001, "p2": 0.0002}
    view = read_scene(write(tmp_path, [frame("a.png")], **INTRINSICS, **distortion)).train[0]
    camera_model = CameraModel("OPENCV", WIDTH, HEIGHT, (90.0, 91.0, 31.0, 38.5, *distortion.values()))
    assert view.camera == undistorted_camera(camera_model)
    ray = np.array([[0.2, -0.3, 1.0]])
    theirs, _ = cv2.projectPoints(
        ray, np.zeros(3), np.zeros(3), undistorted_matrix(), np.array(list(distortion.values()))
    )
    np.testing.assert_allclose(camera_model.colmap().img_from_cam(ray), theirs[:, 0], atol=1e-9)


def undistorted_matrix() -> np.ndarray:
    return np.array([[90.0, 0, 31.0], [0, 91.0, 38.5], [0, 0, 1]])


@pytest.mark.parametrize(
    ("extra", "model"),
    [({"k3": 0.01}, "FULL_OPENCV"), ({"camera_model": "OPENCV_FISHEYE", "k4": 0.01}, "OPENCV_FISHEYE")],
)
def test_other_lens_models_are_recognised(tmp_path: Path, extra: dict[str, Any], model: str) -> None:
    view = read_scene(write(tmp_path, [frame("a.png")], **INTRINSICS, **extra)).train[0]
    assert view.load_image.camera_model.name == model  # type: ignore[attr-defined]
    assert view.load_image().shape == (view.camera.height, view.camera.width, 3)


def test_an_unknown_lens_model_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [frame("a.png")], **INTRINSICS, camera_model="EQUIRECTANGULAR")
    with pytest.raises(GSplatLocError, match="EQUIRECTANGULAR"):
        read_scene(tmp_path)


def test_listed_images_that_are_missing_are_skipped_with_a_count(tmp_path: Path) -> None:
    write(tmp_path, [frame("images/a.png"), frame("images/b.png"), frame("images/c.png")])
    (tmp_path / "images" / "b.png").unlink()
    scene = read_scene(tmp_path)
    assert names(scene.train) == ["images/a.png", "images/c.png"]
    assert "left out 1 (listed in the transforms file but not on disk)" in scene.report


def test_a_pose_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    lost = np.full((4, 4), np.nan).tolist()
    write(tmp_path, [frame("a.png"), frame("b.png", lost)])
    assert names(read_scene(tmp_path).train) == ["a.png"]


def test_a_frame_without_a_pose_is_named(tmp_path: Path) -> None:
    write(tmp_path, [{"file_path": "a.png"}])
    with pytest.raises(GSplatLocError, match=r"a\.png"):
        read_scene(tmp_path)


def test_no_listed_image_at_all_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [frame("a.png")])
    (tmp_path / "a.png").unlink()
    with pytest.raises(GSplatLocError, match="file_path"):
        read_scene(tmp_path)


def test_intrinsics_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, [frame("a.png")], w=WIDTH)
    with pytest.raises(GSplatLocError, match="camera_angle_x"):
        read_scene(tmp_path)


def test_eval_holds_out_every_eighth_by_name(tmp_path: Path) -> None:
    write(tmp_path, [frame(f"images/{index}.png") for index in (3, 1, 0, 2, 8, 7, 6, 5, 4)])
    assert names(read_scene(tmp_path, SceneOptions(eval=True)).test) == ["images/0.png", "images/8.png"]


def test_the_pair_of_files_of_nerf_synthetic_is_a_split_and_suffixes_are_implied(tmp_path: Path) -> None:
    write(tmp_path, [frame("train/r_0.png")], "transforms_train.json", camera_angle_x=0.7)
    write(tmp_path, [frame("test/r_0.png")], "transforms_test.json", camera_angle_x=0.7)
    for name in ("train", "test"):
        path = tmp_path / f"transforms_{name}.json"
        path.write_text(path.read_text().replace(f"{name}/r_0.png", f"./{name}/r_0"))
    scene = read_scene(tmp_path)
    assert (names(scene.train), names(scene.test)) == (["train/r_0.png"], ["test/r_0.png"])


def test_the_split_that_nerfstudio_writes_into_the_file_is_used(tmp_path: Path) -> None:
    frames = [frame("images/a.png"), frame("images/b.png")]
    write(tmp_path, frames, **INTRINSICS, train_filenames=["images/a.png"], test_filenames=["images/b.png"])
    scene = read_scene(tmp_path)
    assert (names(scene.train), names(scene.test)) == (["images/a.png"], ["images/b.png"])


def test_test_frames_are_test_views(tmp_path: Path) -> None:
    save_image(tmp_path / "b.png")
    scene = read_scene(write(tmp_path, [frame("a.png")], **INTRINSICS, test_frames=[frame("b.png")]))
    assert (names(scene.train), names(scene.test)) == (["a.png"], ["b.png"])


def test_another_image_folder_replaces_the_listed_one(tmp_path: Path) -> None:
    write(tmp_path, [frame("images/a.png")])
    (tmp_path / "images_2").mkdir()
    cv2.imwrite(str(tmp_path / "images_2" / "a.png"), np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    view = read_scene(tmp_path, SceneOptions(images="images_2")).train[0]
    assert (view.camera.width, view.camera.fx, view.camera.cx) == (30, 45.0, 15.5)


def test_nerfstudios_sparse_cloud_is_read(tmp_path: Path) -> None:
    write_points(tmp_path / "sparse_pc.ply", SparsePoints(np.ones((2, 3)), np.zeros((2, 3), np.uint8)))
    write(tmp_path, [frame("a.png")], **INTRINSICS, ply_file_path="sparse_pc.ply")
    points = read_scene(tmp_path).points
    assert points is not None and len(points) == 2


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text("{")
    with pytest.raises(GSplatLocError, match=r"transforms\.json"):
        read_scene(tmp_path)


def names(views: list[View]) -> list[str]:
    return [view.name for view in views]


def epipolar_error(first: View, second: View, offset: tuple[float, float] = (0.0, 0.0)) -> float:
    """Median distance in pixels of SIFT matches, moved by `offset`, from their epipolar lines."""
    sift = cv2.SIFT.create(2000)
    keypoints, descriptors = zip(
        *(
            sift.detectAndCompute(cv2.cvtColor(view.load_image(), cv2.COLOR_RGB2GRAY), None)
            for view in (first, second)
        )
    )
    pairs = [a for a, b in cv2.BFMatcher().knnMatch(*descriptors, k=2) if a.distance < 0.7 * b.distance]
    x1 = np.array([(*keypoints[0][pair.queryIdx].pt, 1) for pair in pairs]) + (
        0.5,
        0.5,
        0,
    )  # indices -> pixels
    x2 = np.array([(*keypoints[1][pair.trainIdx].pt, 1) for pair in pairs]) + (0.5, 0.5, 0)
    relative = second.cam_from_world @ se3.inverse(first.cam_from_world)
    essential = se3.hat(relative[:3, 3]) @ relative[:3, :3]
    fundamental = (second.camera.matrix().inverse().T @ essential @ first.camera.matrix().inverse()).numpy()
    lines = (x1 + (*offset, 0)) @ fundamental.T
    distances = np.abs(((x2 + (*offset, 0)) * lines).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
    return float(np.median(distances))


def test_fox_poses_agree_with_what_its_images_show(shared_data: Path) -> None:
    views = {
        view.name: view for view in read_scene(shared_data / "nerf_fox", SceneOptions(resolution=2)).train
    }
    assert len(views) == 50
    first, second = views["images/0033.jpg"], views["images/0042.jpg"]
    assert epipolar_error(first, second) < 0.6
    assert epipolar_error(first, second, (3.0, 0.0)) > 0.8  # what a shifted principal point would look like
