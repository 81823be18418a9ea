"""COLMAP models as people have them: cut, without points, without blank lines, in several parts."""

import re
import struct
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch

from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.scene import SceneOptions, colmap_model, read_scene
from gsplatloc.scene.colmap_model import _text_images, read_model
from gsplatloc.scene.images import CameraModel, undistorted_camera
from gsplatloc.scene.readers.views import make_view
from gsplatloc.utils.errors import GSplatLocError

WIDTH, HEIGHT = 80, 60
FILES = ["cameras.bin", "images.bin", "points3D.bin", "frames.bin", "rigs.bin"]


def write_model(root: Path, count: int = 4, folder: str = "sparse/0", binary: bool = True) -> Path:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="OPENCV", width=WIDTH, height=HEIGHT, params=[70, 71, 40, 30, -0.02, 0.01, 0, 0], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    for index in range(count):
        image = pycolmap.Image(name=f"{index}.png", camera_id=1, image_id=index + 1)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([index, 0.1, 2.0]))
        model.add_image_with_trivial_frame(image, pose)
        cv2.imwrite(str(root / "images" / f"{index}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for index in range(3):
        model.add_point3D(np.array([index, 2.0, 3.0]), pycolmap.Track(), np.array([1, 2, 3], np.uint8))
    (model.write_binary if binary else model.write_text)(str(root / folder))
    return root / folder


def test_what_is_read_is_what_pycolmap_reads(tmp_path: Path) -> None:
    for binary in (True, False):
        folder = write_model(tmp_path / str(binary), binary=binary)
        expected, found = pycolmap.Reconstruction(str(folder)), read_model(folder)
        assert found.camera_models == {1: CameraModel.from_colmap(expected.cameras[1])}
        for image in found.images:
            other = expected.find_image_with_name(image.name)
            np.testing.assert_allclose(image.cam_from_world, other.cam_from_world().matrix(), atol=1e-12)
        assert found.points is not None and len(found.points) == 3


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_every_cut_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    path = write_model(tmp_path) / name
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(GSplatLocError, match="sparse/0") as error:
            read_scene(tmp_path)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", ["frames.bin", "rigs.bin"])
def test_files_that_are_not_needed_do_no_harm(tmp_path: Path, name: str) -> None:
    path = write_model(tmp_path) / name
    for data in (b"", path.read_bytes()[:7], b"\xff" * 64):
        path.write_bytes(data)
        assert len(read_scene(tmp_path).train) == 4


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
@pytest.mark.parametrize("count", [2**63, 2**40, 2**32 - 1, 100])
def test_counts_are_checked_against_the_size_of_the_file(tmp_path: Path, name: str, count: int) -> None:
    path = write_model(tmp_path) / name
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    with pytest.raises(GSplatLocError, match=name):
        read_scene(tmp_path)


def test_the_largest_of_several_models_is_read_and_said(tmp_path: Path) -> None:
    write_model(tmp_path, 3)
    write_model(tmp_path, 2, "sparse/2")
    write_model(tmp_path, 9, "sparse/1", binary=False)
    scene = read_scene(tmp_path)
    assert len(scene.train) == 9
    assert "took the largest COLMAP model, sparse/1, of sparse/0 (3 images), sparse/1 (9" in scene.report


@pytest.mark.parametrize("binary", [True, False])
def test_a_model_without_points_is_read(tmp_path: Path, binary: bool) -> None:
    folder = write_model(tmp_path, binary=binary)
    for path in folder.glob("points3D.*"):
        path.unlink()
    scene = read_scene(tmp_path)
    assert len(scene.train) == 4 and scene.points is None


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_images_without_blank_lines_between_them_are_all_read(
    tmp_path: Path, newline: str, mark: str
) -> None:
    path = write_model(tmp_path, 6, binary=False) / "images.txt"
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    lines.insert(6, "1.5 2.5 -1 3.5 4.5 7")  # keypoints of one image
    path.write_bytes((mark + newline.join(lines)).encode())
    assert len(read_scene(tmp_path).train) == 6


KEYPOINTS = "\n1.5 2.5 -1 3.5 4.5 7 1 2 3 4 5 6\n"


# Without anything between images, nothing tells the name "7 8 9" from keypoints.
@pytest.mark.parametrize(
    ("name", "between"),
    [
        *product(["20230501 12 30.png", "1 2 3.png", "(1) 0 0.png"], ["\n\n", "\n", KEYPOINTS]),
        *product(["7 8 9"], ["\n\n", KEYPOINTS]),
    ],
)
def test_names_that_begin_with_numbers_are_no_keypoints(tmp_path: Path, name: str, between: str) -> None:
    path = write_model(tmp_path, 3, binary=False) / "images.txt"
    rows = [f"{n} 1 0 0 0 {n} 2 3 1 {image}" for n, image in enumerate(["0.png", name, "2.png"], 1)]
    path.write_text(between.join(rows) + "\n")
    image = name if name.endswith(".png") else f"{name}.png"
    (tmp_path / "images" / "1.png").rename(tmp_path / "images" / image)
    assert {view.name for view in read_scene(tmp_path).train} == {"0.png", image, "2.png"}


@pytest.mark.parametrize("binary", [True, False])
def test_a_camera_with_two_sets_of_parameters_is_refused(tmp_path: Path, binary: bool) -> None:
    path = write_model(tmp_path, binary=binary) / f"cameras{'.bin' if binary else '.txt'}"
    data = path.read_bytes()
    if binary:
        entry = data[8:]
        changed = entry[:24] + struct.pack("<d", 100.0) + entry[32:]
        repeated, other = (struct.pack("<Q", 2) + entry + again for again in (entry, changed))
    else:
        repeated, other = data + data, data + data.replace(b" 70 ", b" 100 ")
    assert repeated != other
    path.write_bytes(repeated)
    assert read_scene(tmp_path).train[0].camera.fx < 80
    path.write_bytes(other)
    with pytest.raises(GSplatLocError, match="camera 1 twice, with other parameters in cameras"):
        read_scene(tmp_path)


def test_a_model_of_which_half_is_binary_is_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    pycolmap.Reconstruction(str(folder)).write_text(str(folder))
    (folder / "cameras.bin").unlink()
    with pytest.raises(
        GSplatLocError, match="expected cameras.bin beside images.bin in .*sparse/0, found none"
    ):
        read_scene(tmp_path)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_text_model_with_other_poses_than_the_binary_one_is_said(tmp_path: Path, factor: float) -> None:
    folder = write_model(tmp_path)
    pycolmap.Reconstruction(str(folder)).write_text(str(folder))
    text = folder / "images.txt"
    text.write_text(re.sub(r" 0\.10*1? ", f" {0.1 * factor} ", text.read_text()))
    report = read_scene(tmp_path).report
    assert ("in binary and in text files with other poses" in report) == (factor != 1.0)


@pytest.mark.parametrize("damage", ["cut", "large"])
def test_a_text_model_that_is_not_read_may_be_damaged_or_large(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path)
    pycolmap.Reconstruction(str(folder)).write_text(str(folder))
    text = folder / "images.txt"
    if damage == "cut":
        text.write_text(text.read_text()[:-20])
        with pytest.raises(GSplatLocError):
            _text_images(text)
    else:
        text.write_text(text.read_text().replace(" 2 1 ", " 9 1 "))
        assert "with other poses" in read_scene(tmp_path).report
        monkeypatch.setattr(colmap_model, "_MOST_COMPARED", text.stat().st_size)
    scene = read_scene(tmp_path)
    assert len(scene.train) == 4 and "with other poses" not in scene.report


@pytest.mark.parametrize("pose", ["0 0 0 0 1 2 3", "nan 0 0 0 1 2 3", "1 0 0 0 inf 2 3", "1e999 0 0 0 0 0 0"])
def test_a_pose_without_a_rotation_is_left_out_with_a_count(tmp_path: Path, pose: str) -> None:
    folder = write_model(tmp_path, 3, binary=False)
    path = folder / "images.txt"
    path.write_text(f"1 {pose} 1 0.png\n\n2 1 0 0 0 1 2 3 1 1.png\n\n")
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train] == ["1.png"]
    assert "left out 1 (their poses are not finite)" in scene.report
    assert list(read_pose_file(folder, ["0.png", "1.png"])) == ["1.png"]


@pytest.mark.parametrize(
    "camera",
    [
        "1 PINHOLE 0 60 70 70 40 30",
        "1 PINHOLE 80 60 0 0 40 30",
        "1 PINHOLE 80 60 nan 70 40 30",
        "1 PINHOLE 80 60",
        "1 PINHOLE 80 60 70 70 40 30 5",
        "1 NONE 80 60 70",
        "1 INVALID 80 60",
        "x",
        "1 EQUIRECTANGULAR 80 60 80 60",
        "1 PINHOLE 99999999999999999999999 60 70 70 40 30",
        "2 PINHOLE 80 60 70 70 40 30",
        "1 PINHOLE " + "9" * 5000,
    ],
)
def test_a_camera_that_cannot_be_is_one_line(tmp_path: Path, camera: str) -> None:
    (write_model(tmp_path, binary=False) / "cameras.txt").write_text(camera + "\n")
    with pytest.raises(GSplatLocError, match="sparse/0|COLMAP model") as error:
        read_scene(tmp_path)
    assert len(str(error.value)) < 600


FISHEYES = {
    "FISHEYE": [50.0, 50.0, 40.0, 30.0],
    "SIMPLE_FISHEYE": [50.0, 40.0, 30.0],
    "RADIAL_FISHEYE": [50.0, 40.0, 30.0, 0.0, 0.0],
    "SIMPLE_RADIAL_FISHEYE": [50.0, 40.0, 30.0, 0.0],
    "OPENCV_FISHEYE": [50.0, 50.0, 40.0, 30.0, 0.0, 0.0, 0.0, 0.0],
    "THIN_PRISM_FISHEYE": [50.0, 50.0, 40.0, 30.0, *[0.0] * 8],
    "RAD_TAN_THIN_PRISM_FISHEYE": [50.0, 50.0, 40.0, 30.0, *[0.0] * 12],
}


@pytest.mark.parametrize("name", FISHEYES)
def test_a_fisheye_without_coefficients_is_a_fisheye(name: str) -> None:
    """r = f theta: an undistorted pixel at angle theta is read at f theta from the principal point."""
    model = CameraModel(name, WIDTH, HEIGHT, tuple(FISHEYES[name]))
    camera = undistorted_camera(model)
    assert model.distorted
    corner = torch.tensor([[camera.width - 0.5, camera.height - 0.5]], dtype=torch.float64)
    ray = camera.unproject(corner, torch.ones(1, dtype=torch.float64)).numpy()
    stored = model.colmap().img_from_cam(ray)[0] - (40, 30)
    assert np.hypot(*stored) == pytest.approx(50 * np.arctan(np.hypot(*ray[0, :2])), abs=1e-3)
    other = undistorted_camera(
        CameraModel("OPENCV_FISHEYE", WIDTH, HEIGHT, (50.0, 50, 40, 30, 1e-7, 0, 0, 0))
    )
    assert (camera.width, camera.height) == (other.width, other.height)
    assert camera.fx == pytest.approx(other.fx)


WIDE = {
    "EUCM": "20 20 40 30 0.6 1.1",
    "FOV": "20 20 40 30 1.2",
    "DIVISION": "20 20 40 30 -0.5",
    "SIMPLE_DIVISION": "20 40 30 -0.5",
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_lenses_of_every_model_are_read(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path, binary=False)
    (folder / "cameras.txt").write_text(f"1 {name} {WIDTH} {HEIGHT} {WIDE[name]}\n")
    (view, *_) = read_scene(tmp_path).train
    assert view.load_image().shape == (view.camera.height, view.camera.width, 3)


def test_a_panorama_is_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path, 1, binary=False)
    (folder / "cameras.txt").write_text(f"1 EQUIRECTANGULAR {WIDTH} {HEIGHT} {WIDTH} {HEIGHT}\n")
    with pytest.raises(GSplatLocError, match="found EQUIRECTANGULAR: cut the panoramas"):
        read_scene(tmp_path)
    model = CameraModel("EQUIRECTANGULAR", WIDTH, HEIGHT, (WIDTH, HEIGHT))
    with pytest.raises(GSplatLocError, match="found EQUIRECTANGULAR, which no pinhole camera replaces"):
        make_view("0", tmp_path / "images" / "0.png", model, torch.eye(4).double(), SceneOptions())


FOLDED = "70 70 40 30 -1.5 0 0 0"


def test_images_whose_camera_folds_them_over_are_left_out_with_a_count(tmp_path: Path) -> None:
    folder = write_model(tmp_path, binary=False)
    camera = f"OPENCV {WIDTH} {HEIGHT}"
    (folder / "cameras.txt").write_text(f"1 {camera} 70 71 40 30 0 0 0 0\n2 {camera} {FOLDED}\n")
    images = (folder / "images.txt").read_text()
    (folder / "images.txt").write_text(images.replace(" 1 1.png", " 2 1.png"))
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train] == ["0.png", "2.png", "3.png"]
    assert "left out 1 (of cameras whose intrinsics no lens has)" in scene.report
    with pytest.raises(GSplatLocError, match=r"images/1\.png, found OPENCV with coefficients that fold"):
        read_scene(tmp_path, SceneOptions(strict=True))
    (folder / "cameras.txt").write_text(f"1 {camera} {FOLDED}\n2 {camera} {FOLDED}\n")
    with pytest.raises(GSplatLocError, match="found OPENCV with coefficients that fold the image over"):
        read_scene(tmp_path)


def test_photos_without_a_pose_are_said(tmp_path: Path) -> None:
    write_model(tmp_path)
    cv2.imwrite(str(tmp_path / "images" / "portrait.jpg"), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    (tmp_path / "images" / "IMG_1.DNG").write_bytes(b"raw")
    report = read_scene(tmp_path).report
    assert "1 images in" in report and "not in the model, for example portrait.jpg" in report
    assert "left out 1 .dng files, for example IMG_1.DNG" in report


@pytest.mark.parametrize("folder", ["colmap/sparse/0", "sparse/2", "sparse/0/1"])
def test_models_are_found_where_programs_write_them(tmp_path: Path, folder: str) -> None:
    write_model(tmp_path, folder=folder)
    assert len(read_scene(tmp_path).train) == 4


@pytest.mark.parametrize("prefix", ["/home/anna/project/images/", "images/", "C:\\project\\images\\", "../"])
def test_images_are_found_wherever_the_model_was_made(tmp_path: Path, prefix: str) -> None:
    folder = write_model(tmp_path, binary=False)
    text = (folder / "images.txt").read_text()
    for index in range(4):
        text = text.replace(f" {index}.png", f" {prefix}{index}.png")
    (folder / "images.txt").write_text(text)
    views = read_scene(tmp_path).train
    assert [view.image_path for view in views] == [tmp_path / "images" / f"{i}.png" for i in range(4)]
    assert all(view.name[0] not in "/." for view in views)


def test_labels_without_a_suffix_are_images(tmp_path: Path) -> None:
    """Metashape's names of images."""
    images = write_model(tmp_path, binary=False) / "images.txt"
    images.write_text(images.read_text().replace(".png", ""))
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train] == [f"{index}.png" for index in range(4)]
    assert scene.report.endswith("found 4 images, used 4 images")


def test_images_of_one_name_in_other_folders_are_not_guessed(tmp_path: Path) -> None:
    folder = write_model(tmp_path, binary=False)
    text = (folder / "images.txt").read_text()
    text = text.replace(" 0.png", " /x/left/0.png").replace(" 1.png", " /x/right/0.png")
    (folder / "images.txt").write_text(text)
    assert [view.name for view in read_scene(tmp_path).train] == ["2.png", "3.png"]


@pytest.mark.parametrize("part", ["sparse/0", "sparse", "images"])
def test_a_part_of_a_scene_names_the_whole(tmp_path: Path, part: str) -> None:
    write_model(tmp_path / "scene")
    for path in (tmp_path / "scene" / part, tmp_path):
        with pytest.raises(GSplatLocError, match=f"pass {tmp_path / 'scene'}$"):
            read_scene(path)
