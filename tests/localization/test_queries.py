"""Photos with no known pose, and what is known of their cameras."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import Image

from gsplatloc.localization.queries import (
    CameraPrior,
    Intrinsics,
    as_rgb,
    camera_of_file,
    exif_focal,
    queries_in_folder,
)
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

EXIF_IFD, FOCAL_35MM, ORIENTATION = 0x8769, 0xA405, 0x0112


def write_photo(path: Path, focal_35mm: int | None = None, orientation: int | None = None) -> None:
    """A 60x40 photo, red on the left and blue on the right, with the EXIF data asked for."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0], pixels[:, 30:, 2] = 255, 255
    exif = Image.Exif()
    if focal_35mm:
        exif.get_ifd(EXIF_IFD)[FOCAL_35MM] = focal_35mm
    if orientation:
        exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def test_images_are_found_by_name_in_subfolders(tmp_path: Path) -> None:
    for name in ("b.jpg", "sub/a.JPG", "c.png"):
        write_photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [query.name for query in queries_in_folder(tmp_path)] == ["b.jpg", "c.png", "sub/a.JPG"]


def test_images_are_rgb(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    image = queries_in_folder(tmp_path)[0].load_image()
    assert image.shape == (40, 60, 3)
    assert image[20, 5].tolist() == [255, 0, 0]


def test_exif_tells_the_focal_length(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", focal_35mm=28)
    focal = exif_focal(tmp_path / "a.jpg")
    assert focal == pytest.approx(28 / 36 * 60, rel=0.1)  # conventions differ: long side or diagonal


def test_without_exif_the_camera_is_unknown(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg")
    cv2.imwrite(str(tmp_path / "b.bmp"), np.zeros((8, 8, 3), np.uint8))
    assert camera_of_file(tmp_path / "a.jpg") is None
    assert camera_of_file(tmp_path / "b.bmp") is None


def test_orientation_turns_image_and_camera(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", focal_35mm=28, orientation=6)
    query = queries_in_folder(tmp_path)[0]
    camera = query.load_camera()
    assert query.load_image().shape == (60, 40, 3)
    assert isinstance(camera, CameraPrior) and camera.focal_sigma > 0
    camera = camera.camera
    assert (camera.width, camera.height, camera.cx, camera.cy) == (40, 60, 20, 30)


def test_given_focal_wins_over_exif(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", focal_35mm=28)
    camera = camera_of_file(tmp_path / "a.jpg", Intrinsics(focal=77.0))
    assert camera == Camera(60, 40, 77.0, 77.0, 30.0, 20.0)


def test_given_matrix_wins_over_all(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", focal_35mm=28)
    camera = camera_of_file(tmp_path / "a.jpg", Intrinsics(77.0, (70.0, 71.0, 31.0, 19.0)))
    assert camera == Camera(60, 40, 70.0, 71.0, 31.0, 19.0)


def test_missing_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected a folder of images .*check the path"):
        queries_in_folder(tmp_path / "none")


def test_folder_without_images_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected images"):
        queries_in_folder(tmp_path)


def test_a_file_that_is_no_image_is_an_error_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    query = queries_in_folder(tmp_path)[0]
    for load in (query.load_image, query.load_camera):
        with pytest.raises(GSplatLocError, match=r"a\.jpg"):
            load()


def test_hidden_files_and_folders_named_like_images_are_left_out(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "._a.jpg").write_bytes(b"what macOS leaves")
    (tmp_path / "album.jpg").mkdir()
    assert [query.name for query in queries_in_folder(tmp_path)] == ["a.jpg"]


@pytest.mark.parametrize("focal", [0.0, -500.0, float("nan"), float("inf")])
def test_impossible_focal_lengths_are_a_user_error(focal: float) -> None:
    with pytest.raises(GSplatLocError, match="positive focal length"):
        Intrinsics(focal=focal)
    with pytest.raises(GSplatLocError, match="positive focal length"):
        Intrinsics(matrix=(500.0, focal, 320.0, 240.0))


RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "same",
    [
        RGB,
        RGB / 255,
        (RGB / 255).astype(np.float32) * 1.0005,  # resampled floats overshoot
        RGB.astype(np.uint16) * 257,
        np.dstack([RGB, np.full((6, 8), 255, np.uint8)]),
        PIL.Image.fromarray(RGB),
        PIL.Image.fromarray(np.dstack([RGB, np.full((6, 8), 255, np.uint8)])),
    ],
)
def test_every_usual_kind_of_image_is_the_same_rgb(same: object) -> None:
    assert as_rgb(same).dtype == np.uint8
    assert np.array_equal(as_rgb(same), RGB)


@pytest.mark.parametrize(
    "grey", [RGB[..., 0], RGB[..., :1], RGB[..., 0] / 255, PIL.Image.fromarray(RGB[..., 0])]
)
def test_grey_images_have_three_equal_channels(grey: object) -> None:
    assert np.array_equal(as_rgb(grey), RGB[..., [0, 0, 0]])


def test_a_path_is_read_upright(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(as_rgb(path), np.rot90(RGB, -1))


def test_transparent_pixels_are_over_black() -> None:
    assert not as_rgb(np.dstack([RGB, np.zeros((6, 8), np.uint8)])).any()


def test_a_file_is_a_query_of_its_own(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        PIL.Image.fromarray(RGB).save(tmp_path / name)
    (query,) = queries_in_folder(tmp_path / "a.png")
    assert query.name == "a.png" and query.load_image().shape == (6, 8, 3)
