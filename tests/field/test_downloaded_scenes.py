"""Scenes after a download, an export or a conversion: pointers of Git LFS, renamed photos, sky in depth."""

import json
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gsplatloc.datasets.photos import collect
from gsplatloc.localization.queries import queries_in_folder
from gsplatloc.scene import image_header, read_scene
from gsplatloc.scene.formats import read_splat
from gsplatloc.scene.image_header import DamagedImageError
from gsplatloc.scene.images import decode_depth, decode_rgb, image_size
from gsplatloc.scene.readers import views
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, read_text
from tests.field.test_colmap_models import write_model
from tests.field.test_copied_scenes import POSE, posed_folders, transforms
from tests.field.test_depth_sequences import write_tum
from tests.field.test_phone_photos import photo

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FOUND = "found a pointer of Git LFS in its place: run git lfs pull"


def test_a_pointer_of_git_lfs_is_named_in_the_place_of_text(tmp_path: Path) -> None:
    for name, read in (("a.json", read_json), ("a.txt", read_text)):
        (tmp_path / name).write_bytes(POINTER)
        with pytest.raises(GSplatLocError, match=FOUND):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.ply", "a.compressed.ply", "a.spz", "a.splat", "a.ksplat", "a.sog", "a.glb"]
)
def test_a_pointer_of_git_lfs_is_named_in_the_place_of_a_splat(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(GSplatLocError, match=FOUND):
        read_splat(tmp_path / name)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin", "points3D.bin"])
def test_a_pointer_of_git_lfs_is_named_in_the_place_of_a_model(tmp_path: Path, file: str) -> None:
    (write_model(tmp_path) / file).write_bytes(POINTER)
    with pytest.raises(GSplatLocError, match=FOUND):
        read_scene(tmp_path)


def test_what_is_in_the_place_of_images_is_in_the_report(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(POINTER)
    report = read_scene(tmp_path).report
    assert (
        "left out 1 (damaged, for example 1.png: a pointer of Git LFS in its place): run git lfs pull"
        in report
    )
    for index in range(4):
        (tmp_path / "images" / f"{index}.png").write_bytes(POINTER)
    with pytest.raises(
        GSplatLocError, match=r"4 \(damaged, for example 0.png: a pointer .*\): run git lfs pull$"
    ):
        read_scene(tmp_path)


def test_text_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Tür.png".encode("latin-1"))
    with pytest.raises(GSplatLocError, match="in UTF-8, found .*: save it in UTF-8"):
        read_text(tmp_path / "a.txt")


def test_a_heic_photo_with_another_ending_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = Image.Exif()
    data.get_ifd(0x8769)[0xA405] = 26
    photo().save(tmp_path / "a.jpg", format="HEIF", quality=95, exif=data)
    assert np.abs(decode_rgb(tmp_path / "a.jpg").astype(int) - np.asarray(photo())).mean() < 5
    (query,) = queries_in_folder(tmp_path)
    assert query.load_camera() is not None


def test_a_broken_heic_photo_is_not_said_to_be_of_another_format(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(4000))
    with pytest.raises(DamagedImageError, match="found cannot identify"):
        decode_rgb(tmp_path / "a.HEIC")


def test_a_jpeg_that_was_named_heic_needs_no_other_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_header, "reads_heif", lambda: False)
    photo().save(tmp_path / "a.heic", format="JPEG", quality=95)
    assert image_size(tmp_path / "a.heic") == (128, 96)
    assert decode_rgb(tmp_path / "a.heic").shape == (96, 128, 3)


def test_an_image_that_is_transparent_everywhere_is_not_mapped(tmp_path: Path) -> None:
    write_model(tmp_path)
    Image.new("RGBA", (80, 60), (200, 100, 50, 0)).save(tmp_path / "images" / "2.png")
    with pytest.raises(DamagedImageError, match="found one that is transparent everywhere"):
        decode_rgb(tmp_path / "images" / "2.png")
    scene = without_damaged(read_scene(tmp_path))
    assert [view.name for view in scene.train] == ["0.png", "1.png", "3.png"]
    assert "1 training images that are damaged, for example 2.png: one that is transparent" in scene.report


@pytest.mark.parametrize(("remove", "found"), [(True, "no file"), (False, "one that cannot be decoded")])
def test_an_image_that_vanished_or_fails_without_a_text_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: bool, found: str
) -> None:
    write_model(tmp_path)
    scene = read_scene(tmp_path)
    path = tmp_path / "images" / "2.png"
    if remove:
        path.unlink()

    def check(tried: Path) -> None:
        if tried.name == path.name:
            raise image_header.damaged(tried, "")

    monkeypatch.setattr(views, "check_decodable", check)
    report = without_damaged(scene).report
    assert f"1 training images that are damaged, for example 2.png: {found}" in report


@pytest.mark.parametrize(
    ("depth", "units"),
    [
        (np.array([[2.0, 1e10]], np.float32), 1.0),  # of Blender
        (np.array([[2.0, 65504.0]], np.float16), 1.0),  # of renderers with half precision
        (np.array([[2000, 2**32 - 1]], np.uint32), 1000.0),
        (np.array([[2000, 2**15 - 1]], np.int16), 1000.0),
    ],
)
def test_depth_of_the_sky_is_no_measurement(tmp_path: Path, depth: np.ndarray, units: float) -> None:
    np.save(tmp_path / "depth.npy", depth)
    assert decode_depth(tmp_path / "depth.npy", units).tolist() == [[2.0, 0.0]]


def test_images_in_folders_within_that_of_the_images_are_counted(tmp_path: Path) -> None:
    rgb = posed_folders(tmp_path) / "train" / "rgb"
    (rgb / "seq-01").mkdir()
    (rgb / "b.png").rename(rgb / "seq-01" / "b.png")
    report = read_scene(tmp_path).report
    assert "found 2 images, used 1 images; left out 1 (in folders within" in report
    assert "for example seq-01/b.png" in report
    (rgb / "a.png").rename(rgb / "seq-01" / "a.png")
    with pytest.raises(GSplatLocError, match=r"found 2 \(in folders within .*, for example seq-01/a.png"):
        read_scene(tmp_path)


def test_files_of_posed_folders_pair_in_any_form_of_unicode_and_case(tmp_path: Path) -> None:
    train = posed_folders(tmp_path) / "train"
    for folder, name in (("rgb", "é.COLOR.png"), ("poses", unicodedata.normalize("NFD", "é.pose.txt"))):
        file = next((train / folder).glob("a.*"))
        file.rename(file.with_name(name))
    (train / "calibration" / "a.txt").rename(train / "calibration" / "é.calibration.txt")
    assert len(read_scene(tmp_path).train) == 2


def test_names_of_folders_in_another_form_are_found(tmp_path: Path) -> None:
    transforms(tmp_path, name="images/é/a.png")
    (tmp_path / "images" / "é").rename(tmp_path / "images" / unicodedata.normalize("NFD", "é"))
    (tmp_path / "images").rename(tmp_path / "Images")
    assert len(read_scene(tmp_path).train) == 1


def test_spaces_in_the_names_of_a_model_count(tmp_path: Path) -> None:
    model = write_model(tmp_path, binary=False)
    images = model / "images.txt"
    images.write_text(images.read_text().replace(" 1.png", " a  1.png"))
    (tmp_path / "images" / "1.png").rename(tmp_path / "images" / "a  1.png")
    assert len(read_scene(tmp_path).train) == 4


def test_a_model_without_images_is_one_line(tmp_path: Path) -> None:
    model = write_model(tmp_path, binary=False)
    (model / "images.txt").write_text("# Image list\n")
    with pytest.raises(GSplatLocError, match="expected images in the COLMAP model of .*, found none"):
        read_scene(tmp_path)


def test_a_camera_model_of_null_is_not_given(tmp_path: Path) -> None:
    assert len(read_scene(transforms(tmp_path, camera_model=None)).train) == 1


def test_depth_that_is_listed_but_missing_is_left_out(tmp_path: Path) -> None:
    write_tum(tmp_path)
    (tmp_path / "depth" / "2.png").unlink()
    scene = read_scene(tmp_path)
    assert len(scene.train) == 3
    assert "1 (listed in depth.txt but not on disk), for example depth/2.png" in scene.report


def test_what_holds_for_many_frames_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    frames = []
    for index in range(20):
        name = f"{index:02d}"
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((48, 64, 3), np.uint8))
        (tmp_path / f"{name}.exr").write_bytes(b"v/1\x01")
        frames.append({
            "file_path": f"images/{name}.png", "transform_matrix": POSE.tolist(), "fl_x": 50 + 0.1 * index,
            "depth_file_path": f"{name}.exr", "mask_path": f"masks/{name}.png",
        })  # fmt: skip
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.3, "frames": frames}))
    report = read_scene(tmp_path).report
    for text in ("of a kind that is not read", "some files of mask_path", "camera_angle_x states"):
        assert report.count(text) == 1


def test_a_video_of_which_a_part_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for seed in range(20):
        writer.write(np.random.default_rng(seed).integers(0, 255, (240, 320, 3)).astype(np.uint8))
    writer.release()
    assert collect(video, tmp_path / "whole", 5, 320) == 5
    assert "warning" not in capsys.readouterr().err
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    collect(video, tmp_path / "part", 5, 320)
    assert "of its 20 frames were decoded" in capsys.readouterr().err
    video.write_bytes(POINTER)
    with pytest.raises(GSplatLocError, match=FOUND):
        collect(video, tmp_path / "none", 5, 320)


def test_a_list_of_associations_is_named(tmp_path: Path) -> None:
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(b"")
    (tmp_path / "associations.txt").write_text("1 rgb/1.png 1 depth/1.png\n")
    with pytest.raises(GSplatLocError, match="a list of associations .*rgb.txt and depth.txt"):
        read_scene(tmp_path)


@pytest.mark.parametrize("row", [[1e-9, 0, -2e-12, 1], [0, 0, 0, 1 + 1e-7], [0, 0, 0, 0]])
def test_a_last_row_that_was_rounded_is_no_transposed_pose(tmp_path: Path, row: list[float]) -> None:
    matrix = np.vstack([POSE[:3], row])
    (view,) = read_scene(transforms(tmp_path, matrix=matrix)).train
    assert view.cam_from_world.inverse()[:3, 3].tolist() == pytest.approx([3, 4, 5])


def test_suffixes_of_replica_may_be_in_upper_case(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    cv2.imwrite(str(tmp_path / "results" / "frame000000.JPG"), np.zeros((48, 64, 3), np.uint8))
    np.savetxt(tmp_path / "traj.txt", POSE.reshape(1, 16))
    camera = {"w": 64, "h": 48, "fx": 50, "fy": 50, "cx": 31.5, "cy": 23.5, "scale": 1000}
    (tmp_path / "cam_params.json").write_text(json.dumps(camera))
    assert len(read_scene(tmp_path).train) == 1
