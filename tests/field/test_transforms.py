"""transforms.json as people have it: copied from elsewhere, written on Windows, with splits, or damaged."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.images import CameraModel, ImageLoader, undistorted_camera
from gsplatloc.utils.errors import GSplatLocError

TOP = {"fl_x": 50.0, "w": 64, "h": 48}
POSE = np.eye(4).tolist()


def save(path: Path, value: int, scale: int = 1) -> None:
    """An image of one grey value, by which it is recognised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((48 // scale, 64 // scale, 3), value, np.uint8))


def write(root: Path, names: list[str], encoding: str = "utf-8", **top: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    frames = [{"file_path": name, "transform_matrix": POSE} for name in names]
    text = json.dumps({**TOP, "frames": frames, **top})
    (root / "transforms.json").write_text(text, encoding=encoding)
    return root


def greys(scene: Scene) -> dict[str, int]:
    return {view.name: int(view.load_image()[0, 0, 0]) for view in scene.train}


def test_absolute_names_of_this_machine_are_read(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "a.png"
    save(elsewhere, 7)
    inside = tmp_path / "scene" / "images" / "b.png"
    save(inside, 9)
    scene = read_scene(write(tmp_path / "scene", [str(elsewhere), str(inside)]))
    assert sorted(greys(scene).values()) == [7, 9]
    assert all(not view.name.startswith("/") and ".." not in view.name for view in scene.train)


@pytest.mark.parametrize(
    "listed",
    [
        "/home/other/capture/images/{}",
        "C:\\Users\\x\\capture\\images\\{}",
        "images\\{}",
        "./images/{}",
        "../s/images/{}",
    ],
)
def test_names_of_another_machine_are_found_below_the_scene(tmp_path: Path, listed: str) -> None:
    for value, name in ((7, "a.png"), (9, "b.png")):
        save(tmp_path / "s" / "images" / name, value)
    scene = read_scene(write(tmp_path / "s", [listed.format("a.png"), listed.format("b.png")]))
    assert greys(scene) == {"images/a.png": 7, "images/b.png": 9}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, encoding: str) -> None:
    save(tmp_path / "images" / "a.png", 7)
    assert len(read_scene(write(tmp_path, ["images/a.png"], encoding)).train) == 1


def test_smaller_images_in_subfolders_keep_their_poses(tmp_path: Path) -> None:
    names = ["images/left/0.png", "images/right/0.png"]
    for value, name in enumerate(names, start=5):
        save(tmp_path / name, 200)
        save(tmp_path / name.replace("images", "images_2"), value, scale=2)
    scene = read_scene(write(tmp_path, names), SceneOptions(images="images_2"))
    assert greys(scene) == {"images_2/left/0.png": 5, "images_2/right/0.png": 6}


def test_a_flat_copy_whose_names_are_ambiguous_pairs_nothing(tmp_path: Path) -> None:
    names = ["images/left/0.png", "images/right/0.png", "images/left/1.png"]
    for name in names:
        save(tmp_path / name, 200)
    for name in ("0.png", "1.png"):
        save(tmp_path / "images_2" / name, 5, scale=2)
    scene = read_scene(write(tmp_path, names), SceneOptions(images="images_2"))
    assert greys(scene) == {"images_2/1.png": 5}
    assert "left out 2 (listed in the transforms file but not on disk)" in scene.report


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        ({"train_filenames": ["images/0.png", "images/1.png"]}, {"0", "1"}, {"2", "3"}),
        ({"test_filenames": ["images/3.png"]}, {"0", "1", "2"}, {"3"}),
        ({"train_filenames": ["images\\0.png"], "test_filenames": ["images/3.png"]}, {"0"}, {"3"}),
        ({"train_filenames": ["./images/0.png"], "val_filenames": ["images/3.png"]}, {"0"}, {"1", "2"}),
    ],
)
def test_splits_by_file_names(tmp_path: Path, splits: dict, train: set[str], test: set[str]) -> None:
    names = [f"images/{index}.png" for index in range(4)]
    for name in names:
        save(tmp_path / name, 7)
    scene = read_scene(write(tmp_path, names, **splits))
    assert {Path(view.name).stem for view in scene.train} == train
    assert {Path(view.name).stem for view in scene.test} == test


@pytest.mark.parametrize(
    ("listed", "images"),
    [
        ("/home/anna/scene/images/{}.png", None),  # of another machine
        ("./images/{}", None),  # without suffix, as NeRF's synthetic scenes
        ("images/{}.PNG", None),
        ("images/{}.png", "images_2"),
    ],
)
def test_splits_are_by_the_names_in_the_file_wherever_images_are_found(
    tmp_path: Path, listed: str, images: str | None
) -> None:
    for folder, scale in (("images", 1), ("images_2", 2)):
        for index in range(4):
            save(tmp_path / folder / f"{index}.png", 7, scale)
    names = [listed.format(index) for index in range(4)]
    write(tmp_path, names, train_filenames=names[:3], test_filenames=names[3:])
    scene = read_scene(tmp_path, SceneOptions(images=images))
    assert [Path(view.name).stem for view in scene.train] == ["0", "1", "2"]
    assert [Path(view.name).stem for view in scene.test] == ["3"]


@pytest.mark.parametrize(
    "listed", ["{root}/images/{index}.png", "images/{index}", "/home/x/y/images/{index}"]
)
@pytest.mark.parametrize("images", [None, "images_2"])
@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_splits_may_spell_names_otherwise_than_file_path(
    tmp_path: Path, listed: str, images: str | None, split: str
) -> None:
    names = [f"images/{index}.png" for index in range(4)]
    for name in names:
        save(tmp_path / name, 7)
        save(tmp_path / name.replace("images", "images_2"), 7, scale=2)
    splits = {"train_filenames": names[:2], "test_filenames": names[2:]}
    if split == "val":
        splits = {"train_filenames": names[:2], "val_filenames": names[2:3]}
    elif split == "test":
        splits = {"test_filenames": names[2:]}
    write(tmp_path, [listed.format(root=tmp_path, index=index) for index in range(4)], **splits)
    scene = read_scene(tmp_path, SceneOptions(images=images))
    assert [Path(view.name).stem for view in scene.train] == ["0", "1"]
    assert [Path(view.name).stem for view in scene.test] == (["3"] if split == "val" else ["2", "3"])
    assert "of no frame" not in scene.report


def test_splits_that_name_no_frame_are_said(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", 7)
    with pytest.raises(GSplatLocError, match="in its train_filenames, found other/a.png: correct"):
        read_scene(write(tmp_path, ["images/a.png"], train_filenames=["other/a.png"]))
    scene = read_scene(write(tmp_path, ["images/a.png"], test_filenames=["other/a.png"]))
    assert len(scene.train) == 1 and "1 names of train_filenames and test_filenames" in scene.report


def test_masks_and_depth_that_are_missing_are_said(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", 7)
    frame = {
        "file_path": "images/a.png",
        "transform_matrix": POSE,
        "mask_path": "m.png",
        "depth_path": "d.png",
    }
    scene = read_scene(write(tmp_path, [], frames=[frame, frame | {"file_path": "images/b.png"}]))
    assert "some files of mask_path are not on disk, for example m.png" in scene.report
    assert "some files of depth_path are not on disk, for example d.png" in scene.report


@pytest.mark.parametrize("fisheye", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
@pytest.mark.parametrize("coefficients", [{}, {"k1": 0.0, "k2": 0.0, "k3": 0, "k4": 0}])
def test_a_fisheye_without_coefficients_is_a_fisheye(
    tmp_path: Path, fisheye: dict, coefficients: dict
) -> None:
    save(tmp_path / "images" / "a.png", 7)
    camera = read_scene(write(tmp_path, ["images/a.png"], **fisheye, **coefficients)).train[0].camera
    other = undistorted_camera(CameraModel("OPENCV_FISHEYE", 64, 48, (50.0, 50.0, 32.0, 24.0, 1e-7, 0, 0, 0)))
    assert (camera.width, camera.height) == (other.width, other.height)
    assert camera.fx == pytest.approx(other.fx)


FULL = (50.0, 50.0, 32.0, 24.0)  # fx fy cx cy


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (
            {"distortion_params": [0.1, -0.05, 0, 0, 0.002, 0.001]},  # nerfstudio's k1 k2 k3 k4 p1 p2
            CameraModel("OPENCV", 64, 48, (*FULL, 0.1, -0.05, 0.002, 0.001)),
        ),
        (
            {"camera_model": "OPENCV_FISHEYE", "distortion_params": [0.1, 0.2, 0.3, 0.4, 0, 0]},
            CameraModel("OPENCV_FISHEYE", 64, 48, (*FULL, 0.1, 0.2, 0.3, 0.4)),
        ),
        (
            {"camera_model": "FULL_OPENCV", "k1": 0.1, "k4": 0.02, "k6": 0.01},
            CameraModel("FULL_OPENCV", 64, 48, (*FULL, 0.1, 0, 0, 0, 0, 0.02, 0, 0.01)),
        ),
    ],
)
def test_every_coefficient_is_used(tmp_path: Path, top: dict, expected: CameraModel) -> None:
    save(tmp_path / "images" / "a.png", 7)
    (view,) = read_scene(write(tmp_path, ["images/a.png"], **top)).train
    assert isinstance(view.load_image, ImageLoader) and view.load_image.camera_model == expected


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ({"latlong": True}, "latlong"),  # of instant-ngp
        ({"latlong": 1}, "latlong"),
        ({"equirectangular": True}, "equirectangular"),
        ({"ftheta_p0": 0.0, "ftheta_p1": 0.01}, "ftheta_p1"),
        ({"k1": 0.1, "k5": 0.1}, "OPENCV with k4, k5 or k6"),
        ({"distortion_params": [0.1, 0.2]}, "\\[0.1, 0.2\\]"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
    ],
)
def test_lenses_that_are_not_read_are_refused(tmp_path: Path, top: dict, found: str) -> None:
    save(tmp_path / "images" / "a.png", 7)
    with pytest.raises(GSplatLocError, match=f"found {found}: "):
        read_scene(write(tmp_path, ["images/a.png"], **top))


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ({"fl_x": 0.8, "cx": 0.5, "cy": 0.5}, "a focal length of 0.8"),  # relative to the width, as OpenSfM
        ({"fl_x": 24_000.0}, "a focal length of 24000"),
        ({"k1": -1.5}, "OPENCV with coefficients that fold the image over"),
    ],
)
def test_intrinsics_of_no_lens_are_refused(tmp_path: Path, top: dict, found: str) -> None:
    save(tmp_path / "images" / "a.png", 7)
    with pytest.raises(GSplatLocError, match=f"pixels of an image of 64x48 for .*, found {found}: "):
        read_scene(write(tmp_path, ["images/a.png"], **top))


@pytest.mark.parametrize("key", ["latlong", "equirectangular", "ftheta_p0", "ftheta_p1"])
@pytest.mark.parametrize("value", [None, False, 0, 0.0])
def test_keys_of_other_lenses_that_are_not_set_are_ignored(tmp_path: Path, key: str, value: Any) -> None:
    save(tmp_path / "images" / "a.png", 7)
    assert len(read_scene(write(tmp_path, ["images/a.png"], **{key: value})).train) == 1


def test_a_principal_point_in_the_corner_is_said(tmp_path: Path) -> None:
    """A lower right quarter of an image has it there, files that were not filled in as well."""
    save(tmp_path / "images" / "a.png", 7)
    scene = read_scene(write(tmp_path, ["images/a.png"], cx=0, cy=0))
    assert (scene.train[0].camera.cx, scene.train[0].camera.cy) == (0, 0)
    assert (
        "warning: 1 images have doubtful intrinsics, for example images/a.png a principal point of 0, 0"
        in scene.report
    )


def test_a_mask_beside_its_missing_image_is_no_image(tmp_path: Path) -> None:
    for name in ("b.jpg", "b.jpg.png", "a.jpg.png", "frame.01.png"):
        save(tmp_path / "images" / name, 7)
    scene = read_scene(write(tmp_path, ["images/a.jpg", "images/b.jpg", "images/frame.01"]))
    assert [view.image_path.name for view in scene.train] == ["b.jpg", "frame.01.png"]
    assert "left out 1 (listed in the transforms file but not on disk)" in scene.report


def test_frames_without_a_pose_are_left_out_with_a_count(tmp_path: Path) -> None:
    frames = []
    for index, pose in enumerate([POSE, None, np.full((4, 4), np.nan).tolist()]):
        save(tmp_path / "images" / f"{index}.png", 7)
        frames.append({"file_path": f"images/{index}.png", "transform_matrix": pose})
    scene = read_scene(write(tmp_path, [], frames=frames))
    assert len(scene.train) == 1 and "left out 2 (their poses are not finite)" in scene.report


HUGE = "9" * 400
BROKEN = [
    "[" * 100_000, '{"frames":' * 50_000, "9" * 5000, "[]", "5", "", "\x00", '{"frames": 5}',
    '{"frames": [5]}',
    *(f'{{"w": 64, "h": 48, {top}, "frames":'
      f' [{{"file_path": "images/a.png", "transform_matrix": {matrix}}}]}}'
      for top, matrix in (
          ('"fl_x": 0', POSE), (f'"fl_x": {HUGE}', POSE), ('"fl_x": "a"', POSE), ('"fl_x": NaN', POSE),
          ('"fl_x": 50, "w": 0', POSE), ('"fl_x": 50, "h": -5', POSE),
          ('"fl_x": 50, "w": 1e300', POSE),
          ('"fl_x": 50, "camera_model": 7', POSE), (f'"fl_x": 50, "k1": {HUGE}', POSE), ('"fl_x": 50', 5),
          ('"fl_x": 50', "[[1, 2], [3]]"), ('"fl_x": 50', f"[[{HUGE}, 0, 0, 0]]"), ('"fl_x": 50', '"a"'),
          ('"fl_x": 50', np.zeros((4, 4)).tolist()), ('"fl_x": 50', (np.eye(4) * 1e200).tolist()),
          ('"fl_x": 50, "test_filenames": 5', POSE), ('"fl_x": 50, "train_filenames": [5]', POSE),
          ('"camera_angle_x": 0', POSE), (f'"fl_x": 50, "camera_model": "{"x" * 10_000}"', POSE),
      )),
    *(f'{{"fl_x": 50, "frames": [{{"file_path": {name}, "transform_matrix": {POSE}}}]}}' for name in (
        "5", "null", "[]", '""', '"."', '"\\u0000"', f'"{"x" * 100_000}"', '"images"')),
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_one_short_line(tmp_path: Path, content: str) -> None:
    save(tmp_path / "images" / "a.png", 7)
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(GSplatLocError) as error:
        read_scene(tmp_path)
    assert len(str(error.value)) < 500 + 2 * len(str(tmp_path))


def test_other_splits_than_the_ones_that_are_used_are_said(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name, 7)
    write(tmp_path, ["a.png"])
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    write(tmp_path, ["b.png"])
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_val.json")
    assert "transforms_val.json not read" in read_scene(tmp_path).report
    write(tmp_path, ["a.png", "b.png", "c.png"])
    found = "transforms_train.json and transforms_val.json not read, because there is a transforms.json"
    assert found in read_scene(tmp_path).report


def test_images_of_both_splits_are_test_images_and_said(tmp_path: Path) -> None:
    names = ["a.png", "b.png"]
    for name in names:
        save(tmp_path / name, 7)
    scene = read_scene(write(tmp_path, names, train_filenames=names, test_filenames=names[:1]))
    assert [view.name for view in scene.train] == ["b.png"]
    assert "1 images of train_filenames and of test_filenames, for example a.png" in scene.report
