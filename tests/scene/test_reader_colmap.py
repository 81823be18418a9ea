"""Layout 2: COLMAP models of either format and any camera, with and without rigs."""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.utils.errors import GSplatLocError

WIDTH, HEIGHT = 80, 60
MODELS = {
    1: ("SIMPLE_RADIAL", [70.0, 40.0, 30.0, -0.05]),
    2: ("PINHOLE", [71.0, 72.0, 41.0, 29.0]),
}


def rigid(index: int) -> pycolmap.Rigid3d:
    angle = 0.1 * index
    matrix = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return pycolmap.Rigid3d(pycolmap.Rotation3d(matrix), np.array([0.5 * index, 0.1, 2.0]))


def reconstruction(count: int = 9) -> pycolmap.Reconstruction:
    """Images `sub/000.png`... that alternate between two cameras, and three points."""
    model = pycolmap.Reconstruction()
    for camera_id, (name, params) in MODELS.items():
        camera = pycolmap.Camera(model=name, width=WIDTH, height=HEIGHT, params=params, camera_id=camera_id)
        model.add_camera_with_trivial_rig(camera)
    for index in range(count):
        image = pycolmap.Image(name=f"sub/{index:03d}.png", camera_id=1 + index % 2, image_id=index + 1)
        model.add_image_with_trivial_frame(image, rigid(index))
    for index in range(3):
        model.add_point3D(np.array([index, 2.0, 3.0]), pycolmap.Track(), np.array([10, 20, index], np.uint8))
    return model


def write_scene(root: Path, binary: bool = True, count: int = 9, model_folder: str = "sparse/0") -> Path:
    folder = root / model_folder
    folder.mkdir(parents=True)
    model = reconstruction(count)
    if binary:
        model.write_binary(str(folder))
    else:
        model.write_text(str(folder))
    (root / "images" / "sub").mkdir(parents=True)
    for index in range(count):
        image = np.full((HEIGHT, WIDTH, 3), index, np.uint8)
        assert cv2.imwrite(str(root / "images" / "sub" / f"{index:03d}.png"), image)
    return root


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("rigs", [True, False])
def test_both_formats_are_read_with_rigs_and_without(tmp_path: Path, binary: bool, rigs: bool) -> None:
    write_scene(tmp_path, binary)
    if not rigs:  # as COLMAP 3 wrote models
        for name in ("rigs", "frames"):
            for file in (tmp_path / "sparse" / "0").glob(f"{name}.*"):
                file.unlink()
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train] == [f"sub/{index:03d}.png" for index in range(9)]
    expected = torch.from_numpy(rigid(3).matrix())
    torch.testing.assert_close(scene.train[3].cam_from_world[:3], expected, atol=1e-9, rtol=0)
    assert scene.points is not None
    assert sorted(scene.points.colors[:, 2].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("folder", ["sparse", "."])
def test_the_model_may_lie_higher_up(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "scene"
    (root / folder).mkdir(parents=True)
    model = reconstruction(2)
    model.write_binary(str(root / folder))
    (root / "images" / "sub").mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(root / "images" / "sub" / f"{index:03d}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert len(read_scene(root).train) == 2


def test_each_image_has_its_own_camera_and_distortion_is_undone(tmp_path: Path) -> None:
    radial, pinhole = read_scene(write_scene(tmp_path)).train[:2]
    assert (pinhole.camera.fx, pinhole.camera.fy, pinhole.camera.cx, pinhole.camera.cy) == (71, 72, 41, 29)
    model = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=MODELS[1][1])
    undistorted = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), model)
    assert (radial.camera.width, radial.camera.height) == (undistorted.width, undistorted.height)
    assert radial.load_image().shape == (undistorted.height, undistorted.width, 3)


def test_eval_holds_out_every_eighth(tmp_path: Path) -> None:
    scene = read_scene(write_scene(tmp_path), SceneOptions(eval=True))
    assert [view.name for view in scene.test] == ["sub/000.png", "sub/008.png"]
    assert len(scene.train) == 7


def test_images_from_a_shrunk_folder_scale_the_camera(tmp_path: Path) -> None:
    write_scene(tmp_path, count=2)
    for index in range(2):
        path = tmp_path / "images_2" / "sub" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    camera = read_scene(tmp_path, SceneOptions(images="images_2")).train[1].camera
    assert (camera.width, camera.height, camera.fx, camera.cx) == (40, 30, 35.5, 20.5)


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_scene(tmp_path, count=1)
    cv2.imwrite(str(tmp_path / "images" / "sub" / "000.png"), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(GSplatLocError, match="60x80"):
        read_scene(tmp_path)


def test_missing_images_are_skipped_with_a_count(tmp_path: Path) -> None:
    write_scene(tmp_path, count=3)
    (tmp_path / "images" / "sub" / "001.png").unlink()
    scene = read_scene(tmp_path)
    assert len(scene.train) == 2
    assert "left out 1 (not in" in scene.report


def test_no_image_at_all_is_an_error_that_names_one(tmp_path: Path) -> None:
    write_scene(tmp_path, count=1)
    (tmp_path / "images" / "sub" / "000.png").unlink()
    with pytest.raises(GSplatLocError, match=r"sub/000\.png"):
        read_scene(tmp_path)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path, count=2)
    (tmp_path / "sparse" / "0" / "cameras.bin").write_bytes(b"\x01")
    with pytest.raises(GSplatLocError, match="sparse"):
        read_scene(tmp_path)


def test_points_of_south_building_reproject_within_a_pixel(shared_data: Path) -> None:
    root = shared_data / "colmap_south_building"
    model = pycolmap.Reconstruction(str(root / "sparse" / "0"))
    view = read_scene(root).train[5]
    image = model.find_image_with_name(view.name)
    observed = [
        (point.xy, model.points3D[point.point3D_id].xyz) for point in image.points2D if point.has_point3D()
    ]
    rays = image.camera.cam_from_img(np.array([pixel for pixel, _ in observed]))
    undistorted = rays * [view.camera.fx, view.camera.fy] + [view.camera.cx, view.camera.cy]
    points = torch.from_numpy(np.array([xyz for _, xyz in observed]))
    in_camera = points @ view.cam_from_world[:3, :3].T + view.cam_from_world[:3, 3]
    errors = np.linalg.norm(view.camera.project(in_camera).numpy() - undistorted, axis=1)
    assert np.sqrt((errors**2).mean()) < 1.0


def test_south_building_looks_as_pycolmap_undistorts_it(shared_data: Path) -> None:
    root = shared_data / "colmap_south_building"
    camera = pycolmap.Reconstruction(str(root / "sparse" / "0")).cameras[1]
    view = read_scene(root, SceneOptions(resolution=1)).train[0]
    stored = pycolmap.Bitmap.read(str(view.image_path), True)
    bitmap, _ = pycolmap.undistort_image(pycolmap.UndistortCameraOptions(), stored, camera)
    reference = cv2.GaussianBlur(bitmap.to_array().astype(np.float32), (0, 0), 2)
    ours = cv2.GaussianBlur(view.load_image().astype(np.float32), (0, 0), 2)
    shifted = np.roll(ours, 1, axis=1)
    difference, half_pixel_scale = np.abs(ours - reference).mean(), np.abs(shifted - reference).mean()
    assert difference < 0.1 * half_pixel_scale
