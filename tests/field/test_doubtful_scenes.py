"""Scenes whose intrinsics, depth or layout are those of another image, unit or program."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.images import decode_depth
from gsplatloc.utils.errors import GSplatLocError
from tests.field.test_copied_scenes import posed_folders, transforms


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ({"cx": 0.5, "cy": 0.5}, "a principal point of 0.5, 0.5, which seems to be relative to the size"),
        ({"fl_x": 500.0, "cx": 320.0, "cy": 240.0}, "320, 240, which is not within 64x48 pixels"),  # of VGA
        ({"cx": -3.0}, "a principal point of -3, 24, which is not within"),
        ({"cx": 0.0}, "a principal point of 0, 24, which is not within"),
        ({"fl_y": 500.0}, "focal lengths of 50 and 500, which differ"),
        (
            {"fl_x": 50.0, "camera_angle_x": 0.8},
            "camera_angle_x states a focal length of 75.6871, fl_x 50, which is used",
        ),
    ],
)
def test_doubtful_intrinsics_are_said(tmp_path: Path, top: dict[str, float], found: str) -> None:
    report = read_scene(transforms(tmp_path, **top)).report
    assert "warning: " in report and found in report


@pytest.mark.parametrize(
    "top", [{}, {"fl_x": 50.0, "camera_angle_x": 1.1386}, {"fl_y": 55.0}, {"cx": 20.0, "cy": 40.0}]
)
def test_usual_intrinsics_are_not_mentioned(tmp_path: Path, top: dict[str, float]) -> None:
    assert "warning" not in read_scene(transforms(tmp_path, **top)).report


def test_every_layout_says_that_a_calibration_is_of_another_size(tmp_path: Path) -> None:
    posed_folders(tmp_path)
    (tmp_path / "train" / "calibration" / "b.txt").write_text("525 0 320\n0 525 240\n0 0 1")
    assert "warning: 1 images have doubtful intrinsics, for example b.png" in read_scene(tmp_path).report


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ({"fl_x": -50.0, "fl_y": 50.0}, "found -50 and 50"),
        ({"fl_x": 0, "K": [[50, 0, 32], [0, 50, 24], [0, 0, 1]]}, "found K, which is not read"),
        ({"fl_x": 0, "intrinsics": [50, 50, 32, 24]}, "found intrinsics, which is not read"),
        ({"fl_x": None, "fx": 50}, "found fx, which is not read"),
        ({"k": [0.1, 0, 0, 0]}, "found k, which is not read"),
        ({"distortion": {"k1": 0.1}}, "found distortion, which is not read"),
        ({"shift_x": 0.1}, "found shift_x, which is not read"),  # Blender's
        ({"k1": 100.0}, "found OPENCV with coefficients that leave 22% of the width"),
    ],
)
def test_intrinsics_of_other_programs_are_refused(tmp_path: Path, top: dict[str, Any], found: str) -> None:
    with pytest.raises(GSplatLocError, match=found):
        read_scene(transforms(tmp_path, **top))


@pytest.mark.parametrize(
    "top", [{"fl_x": None, "camera_angle_x": 0.8}, {"K": [[50]]}, {"k": [0, 0.0]}, {"k1": 0.1, "k": [0.1]}]
)
def test_other_keys_without_effect_are_ignored(tmp_path: Path, top: dict[str, Any]) -> None:
    assert len(read_scene(transforms(tmp_path, **top)).train) == 1


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    transforms(tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(GSplatLocError, match="not on disk\\), for example images/a.png: check file_path"):
        read_scene(tmp_path)


@pytest.mark.parametrize("name", ["a.exr", "a.npz", "a.pfm"])
def test_depth_of_a_kind_that_is_not_read_is_left_out(tmp_path: Path, name: str) -> None:
    transforms(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    document["frames"][0]["depth_file_path"] = name
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    (tmp_path / name).write_bytes(b"x")
    scene = read_scene(tmp_path)
    assert f"depth is left out, for example {name}, which is of a kind" in scene.report
    assert scene.train[0].load_depth is None


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint16"])
@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (4, 6, 1)])
def test_depth_arrays_of_integers_are_read(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.full(shape, 2000, dtype))
    assert np.allclose(decode_depth(tmp_path / "a.npy"), np.full((4, 6), 2.0))


@pytest.mark.parametrize("resolution", [3, 16, 31])
def test_a_width_that_shows_nothing_is_refused(resolution: int) -> None:
    with pytest.raises(GSplatLocError, match="or a width of at least 32 pixels, found"):
        SceneOptions(resolution=resolution).size_of(640, 480)


MATRIX = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {"cameras.xml": '<?xml version="1.0"?>\n<document version="2.0.0"><chunk/></document>'},
            "cameras of M",
        ),
        ({"bundle.out": "# Bundle file v0.3\n1 0\n"}, "a model of Bundler"),
        ({"mav0/cam0/data.csv": "x"}, "a sequence of EuRoC"),
        ({"image_0/000000.png": "x", "calib.txt": "P0: 1"}, "a sequence of KITTI"),
        ({"color/0.jpg": "x", "pose/0.txt": MATRIX}, "a scan of ScanNet"),
        ({"rgb/0.png": "x", "pose/0.txt": MATRIX, "intrinsics.txt": "1"}, "a scene of NSVF"),
        ({"images/0.jpg": "x", "cams/00000000_cam.txt": "extrinsic"}, "a scene of MVSNet"),
        ({"image/0.png": "x", "cameras_sphere.npz": "x"}, "a scene of IDR"),
        ({"lowres_wide.traj": "0 0 0 0 0 0 0"}, "a scan of ARKitScenes"),
        ({"poses.csv": "#name,x,y,alt,heading,pitch,roll\na.jpg,0,0,0,0,0,0"}, "cameras of RealityCapture"),
        ({"a.bag": "#ROSBAG V2.0\n"}, "a recording of ROS"),
        ({"reconstruction.json": '[{"cameras": {}, "shots": {}}]'}, "a model of OpenSfM"),
        ({"sfm_data.json": '{"sfm_data_version": "0.3"}'}, "a model of OpenMVG"),
        ({"poses_bounds.npy": "x"}, "a scene of LLFF"),
        (
            {"TrainSplit.txt": "x"},
            "7-Scenes as it is distributed, which is not read: gsplatloc setup 7scenes",
        ),
        ({"point_cloud/iteration_7/point_cloud.ply": "x"}, "a map, no scene"),
        ({"config.json": '{"format": 1, "source_path": "a"}'}, "a map, no scene"),
    ],
)
def test_folders_of_other_programs_are_named(tmp_path: Path, files: dict[str, str], found: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(GSplatLocError, match=f"expected a scene in .*, found {found}"):
        read_scene(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": '{"model": "resnet"}'},
        {"config.json": "no JSON"},
        {"layout.xml": "<annotation><object/></annotation>"},
        {"color/0.jpg": "x"},
        {"a/split.txt": "train: 0.8"},
        {"image_0/holiday.png": "x"},
        {"reconstruction.json": '{"mesh": "a.obj"}'},
        {"meta_data.json": '{"author": "Anna"}'},
        {"database.db": "SQLite format 3, of an address book"},
        {"a.csv": "name,price\n"},
    ],
)
def test_other_files_of_such_a_name_are_no_scene_of_a_program(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(GSplatLocError, match="expected a scene in .*, found no known layout"):
        read_scene(tmp_path)


def test_a_database_of_colmap_is_named(tmp_path: Path) -> None:
    pycolmap.Database.open(str(tmp_path / "database.db")).close()
    with pytest.raises(GSplatLocError, match="found a database of COLMAP without its model"):
        read_scene(tmp_path)


def test_photos_beside_another_programs_poses_can_be_posed(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "cameras.xml").write_text("<document><chunk/></document>")
    with pytest.raises(GSplatLocError, match="as a COLMAP model.*, or gsplatloc map .* finds"):
        read_scene(tmp_path)
