"""Scenes that were copied between systems and tools: names, hidden files, masks, matrices of other habits."""

import json
import math
import shutil
import time
import unicodedata
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.posed_folders import PosedFoldersReader
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import Entry, NoOptions
from tests.field.test_colmap_models import write_model

POSE = np.array([[1, 0, 0, 3.0], [0, 1, 0, 4.0], [0, 0, 1, 5.0], [0, 0, 0, 1]])
MACOS = b"\x00\x05\x16\x07"  # of the files that macOS writes beside others


def posed_folders(root: Path) -> Path:
    """Two images with poses, calibration and depth."""
    folders = [root / "train" / name for name in ("rgb", "poses", "calibration", "depth")]
    for folder in folders:
        folder.mkdir(parents=True)
    for name in ("a", "b"):
        cv2.imwrite(str(folders[0] / f"{name}.png"), np.zeros((48, 64, 3), np.uint8))
        np.savetxt(folders[1] / f"{name}.txt", POSE)
        (folders[2] / f"{name}.txt").write_text("50")
        cv2.imwrite(str(folders[3] / f"{name}.png"), np.full((48, 64), 2000, np.uint16))
    return root


def transforms(root: Path, name: str = "images/a.png", matrix: Any = POSE, **top: Any) -> Path:
    image = root / name
    image.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.zeros((48, 64, 3), np.uint8))
    frames = [{"file_path": name, "transform_matrix": np.asarray(matrix).tolist()}]
    known = {"fl_x": 50.0} if "camera_angle_x" not in top else {}
    (root / "transforms.json").write_text(json.dumps({**known, "frames": frames, **top}))
    return root


def test_hidden_files_of_macos_are_no_images_and_no_poses(tmp_path: Path) -> None:
    posed_folders(tmp_path)
    for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(MACOS)
    scene = read_scene(tmp_path)
    assert [view.name for view in scene.train] == ["a.png", "b.png"]
    assert scene.report.endswith("found 2 images, used 2 images")


def test_poses_without_images_and_images_without_depth_are_said(tmp_path: Path) -> None:
    posed_folders(tmp_path)
    (tmp_path / "train" / "rgb" / "b.png").unlink()
    (tmp_path / "train" / "depth" / "a.png").rename(tmp_path / "train" / "depth" / "a.exr")
    report = read_scene(tmp_path).report
    assert "1 poses in" in report and "have no image, for example b" in report
    assert "1 images have no depth" in report and "of a kind that is not read, as a.exr" in report


def test_depth_of_floats_in_tiff_is_read(tmp_path: Path) -> None:
    posed_folders(tmp_path)
    for file in (tmp_path / "train" / "depth").iterdir():
        file.unlink()
        cv2.imwrite(str(file.with_suffix(".tiff")), np.full((48, 64), 2.5, np.float32))
    for units, expected in ((None, 2.5), (1000.0, 0.0025)):
        view = read_scene(tmp_path, SceneOptions(depth_units=units)).train[0]
        assert view.load_depth is not None and np.allclose(view.load_depth(), expected)


def test_comments_in_pose_files_are_skipped(tmp_path: Path) -> None:
    posed_folders(tmp_path)
    file = tmp_path / "train" / "poses" / "a.txt"
    file.write_text("# camera to world\n" + file.read_text())
    assert len(read_scene(tmp_path).train) == 2


@pytest.mark.parametrize("matrix", [POSE.T, 2 * POSE, np.vstack([POSE[:3], [[0, 0, 0.5, 1]]])])
def test_a_transposed_or_scaled_pose_is_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    for root, write in ((tmp_path / "t", transforms), (tmp_path / "p", posed_folders)):
        write(root)
        if write is transforms:
            transforms(root, matrix=matrix)
        else:
            np.savetxt(root / "train" / "poses" / "a.txt", matrix)
        with pytest.raises(GSplatLocError, match="expected a last row of 0 0 0 1.*transpose the pose"):
            read_scene(root)


@pytest.mark.parametrize("rows", [POSE[:3], np.vstack([POSE[:3], np.zeros((1, 4))])])
def test_a_pose_without_its_last_row_is_read(tmp_path: Path, rows: np.ndarray) -> None:
    assert len(read_scene(transforms(tmp_path, matrix=rows)).train) == 1


@pytest.mark.parametrize(
    "calibration",
    [
        "50 0 0\n0 50 0\n32 24 1",  # transposed
        "100 0 64\n0 100 48\n0 0 2",
        "4000 0 64\n0 4000 48\n0 0 2",
        "2000 0 32\n0 2000 24\n0 1 1",
        "50 3 32\n0 50 24\n0 0 1",  # skewed
        "0.8",  # relative to the width
    ],
)
def test_intrinsics_of_another_form_are_refused(tmp_path: Path, calibration: str) -> None:
    posed_folders(tmp_path)
    (tmp_path / "train" / "calibration" / "b.txt").write_text(calibration)
    with pytest.raises(GSplatLocError, match="expected a matrix|expected intrinsics in pixels"):
        read_scene(tmp_path)


def test_a_line_break_in_a_name_does_not_break_the_report(tmp_path: Path) -> None:
    posed_folders(tmp_path)
    (tmp_path / "train" / "rgb" / "b.png").unlink()
    (tmp_path / "train" / "poses" / "b.txt").rename(tmp_path / "train" / "poses" / "b\nc.txt")
    report = read_scene(tmp_path).report
    assert "have no image, for example b" in report and report.isprintable()


@pytest.mark.parametrize("degrees", [45.0, 60.0, 90.0])
def test_a_field_of_view_in_degrees_is_refused(tmp_path: Path, degrees: float) -> None:
    with pytest.raises(GSplatLocError, match="convert it to radians"):
        read_scene(transforms(tmp_path, camera_angle_x=degrees))
    radians = read_scene(transforms(tmp_path, camera_angle_x=math.radians(degrees)))
    assert radians.train[0].camera.fx == pytest.approx(32 / math.tan(math.radians(degrees) / 2))


def test_smaller_copies_of_images_whose_size_is_not_stated(tmp_path: Path) -> None:
    transforms(tmp_path)
    (tmp_path / "images_2").mkdir()
    cv2.imwrite(str(tmp_path / "images_2" / "a.png"), np.zeros((24, 32, 3), np.uint8))
    assert read_scene(tmp_path, SceneOptions(images="images_2")).train[0].camera.fx == 25
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(GSplatLocError, match="expected w and h"):
        read_scene(tmp_path, SceneOptions(images="images_2"))


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "upper")])
def test_names_in_another_form_of_unicode_or_case_are_found(tmp_path: Path, listed: str, stored: str) -> None:
    transforms(tmp_path, "images/Kü chen%20.png")
    image = tmp_path / "images" / "Kü chen%20.png"
    text = json.loads((tmp_path / "transforms.json").read_text())
    text["frames"][0]["file_path"] = unicodedata.normalize(listed, "images/Kü chen%20.png")  # type: ignore[arg-type]
    (tmp_path / "transforms.json").write_text(json.dumps(text))
    name = image.name.upper() if stored == "upper" else unicodedata.normalize(stored, image.name)  # type: ignore[arg-type]
    image.rename(image.with_name(name))
    assert len(read_scene(tmp_path).train) == 1


def test_names_that_differ_in_case_are_different_images(tmp_path: Path) -> None:
    write_model(tmp_path)
    for index in (0, 1):
        (tmp_path / "images" / f"{index}.png").rename(tmp_path / "images" / f"{index}.PNG")
    assert len(read_scene(tmp_path).train) == 4
    for index in (0, 1):
        shutil.copy(tmp_path / "images" / f"{index}.PNG", tmp_path / "images" / f"{index}.Png")
    assert len(read_scene(tmp_path).train) == 2  # which of both it is, nobody knows


@pytest.mark.parametrize("name", ["0.png.png", "0.png"])
def test_masks_beside_a_model_are_found(tmp_path: Path, name: str) -> None:
    write_model(tmp_path)
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / name), np.full((60, 80), 255, np.uint8))
    scene = read_scene(tmp_path)
    assert [view.load_mask is not None for view in scene.train] == [True, False, False, False]
    assert "3 images have no mask" in scene.report


def test_a_camera_that_no_image_has_is_not_read(tmp_path: Path) -> None:
    folder = write_model(tmp_path, binary=False)
    with (folder / "cameras.txt").open("a") as file:
        file.write("7 PINHOLE 10 10 0 0 5 5\n")
    assert len(read_scene(tmp_path).train) == 4


def test_test_images_that_are_training_images_are_said(tmp_path: Path) -> None:
    shutil.copytree(posed_folders(tmp_path) / "train", tmp_path / "test")
    assert (
        "warning: 2 test images are training images, too, for example test/a.png"
        in read_scene(tmp_path).report
    )
    for name in ("a", "b"):
        np.savetxt(tmp_path / "test" / "poses" / f"{name}.txt", POSE + np.eye(4, k=3))
    assert "training images, too" not in read_scene(tmp_path).report


def test_many_test_images_are_compared_with_many_training_images_at_once(tmp_path: Path) -> None:
    """In time proportional to their number: 20,000 take a fraction of a second."""
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    poses = torch.eye(4, dtype=torch.float64).repeat(20_000, 1, 1)
    poses[:, 0, 3] = torch.arange(20_000)
    load = partial(np.zeros, (2, 2, 3), np.uint8)
    train, test = (
        [View(f"{split}/{i}", Camera(2, 2, 2, 2, 1, 1), pose, image, load) for i, pose in enumerate(poses)]
        for split in ("train", "test")
    )
    gone = replace(test[0], image_path=tmp_path / "gone.png")
    begin = time.process_time()
    report = Tally().scene(tmp_path, train, [gone, *test[1:]]).report
    assert "warning: 19999 test images are training images" in report
    assert time.process_time() - begin < 10


def test_pictures_of_depth_are_said(tmp_path: Path) -> None:
    depth = posed_folders(tmp_path) / "train" / "depth"
    for name in ("a", "b"):
        (depth / f"{name}.png").unlink()
        cv2.imwrite(str(depth / f"{name}.jpg"), np.zeros((48, 64), np.uint8))
    assert (
        "2 files in" in read_scene(tmp_path).report
        and "are no depth that is read" in read_scene(tmp_path).report
    )


def test_a_file_of_a_scene_is_not_its_folder(tmp_path: Path) -> None:
    transforms(tmp_path)
    with pytest.raises(GSplatLocError, match="found a file: pass the folder that it is in"):
        read_scene(tmp_path / "transforms.json")


def test_poses_in_another_layout_that_are_not_read_are_said(tmp_path: Path) -> None:
    write_model(tmp_path)
    assert "not read" not in read_scene(tmp_path).report
    transforms(tmp_path)
    assert (
        "there is also transforms.json (nerfstudio, NeRFCapture), which is not read"
        in read_scene(tmp_path).report
    )


def test_models_beside_posed_folders_are_not_said_and_beside_a_plugins_layout_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transforms(posed_folders(tmp_path))
    assert "there is also" not in read_scene(tmp_path).report

    class Plugin(PosedFoldersReader):
        """A layout of a higher priority than that of posed folders."""

    entries = READERS.entries()
    plugin = Entry("plugin", "a plugin's", NoOptions, Plugin, 60)
    monkeypatch.setattr(READERS, "entries", lambda: [plugin, *entries])
    assert "there is also train/{rgb,poses,calibration}" in read_scene(tmp_path).report
