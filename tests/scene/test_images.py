"""Decoding: sizes, undistortion, depth, transparency."""

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image, ImageOps

from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.images import (
    CameraModel,
    DepthLoader,
    ImageLoader,
    decode_depth,
    decode_rgb,
    decode_upright,
    image_size,
    resize_rgb,
    undistorted_camera,
    upright_size,
)
from gsplatloc.utils.errors import GSplatLocError

BARREL = CameraModel("SIMPLE_RADIAL", 160, 120, (150.0, 78.0, 61.0, -0.12))


def save(path: Path, image: np.ndarray) -> Path:
    """Write an RGB(A), grey or depth array."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), image)
    return path


def dot_image(camera_model: CameraModel, ray: tuple[float, float]) -> np.ndarray:
    """What the camera_model sees of one soft white dot in the direction (x, y, 1)."""
    center = camera_model.colmap().img_from_cam(np.array([[*ray, 1.0]]))[0]
    x, y = np.meshgrid(np.arange(camera_model.width) + 0.5, np.arange(camera_model.height) + 0.5)
    dot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 3.0**2))
    return np.repeat(np.rint(255 * dot)[..., None], 3, 2).astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    """The intensity-weighted mean pixel, with pixel centres at halves."""
    weight = image[..., 0].astype(np.float64)
    x, y = np.meshgrid(np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("ray", [(0.35, 0.2), (-0.3, -0.22), (0.0, 0.0)])
@pytest.mark.parametrize("divisor", [1, 2])
def test_a_dot_lands_where_the_pinhole_camera_says(
    tmp_path: Path, ray: tuple[float, float], divisor: int
) -> None:
    path = save(tmp_path / "dot.png", dot_image(BARREL, ray))
    full = undistorted_camera(BARREL)
    camera = full.resized(full.width // divisor, full.height // divisor)
    image = ImageLoader(path, BARREL, camera.width, camera.height)()
    expected = camera.project(torch.tensor([[*ray, 1.0]], dtype=torch.float64))[0].numpy()
    assert image.shape == (camera.height, camera.width, 3)
    assert np.abs(centroid(image) - expected).max() < 0.1


def test_undistortion_leaves_no_blank_border(tmp_path: Path) -> None:
    path = save(tmp_path / "white.png", np.full((120, 160, 3), 255, np.uint8))
    camera = undistorted_camera(BARREL)
    assert ImageLoader(path, BARREL, camera.width, camera.height)().min() == 255


def test_a_lens_without_distortion_changes_no_pixel(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    camera_model = CameraModel("OPENCV", 32, 24, (30.0, 31.0, 15.0, 12.5, 0.0, 0.0, 0.0, 0.0))
    np.testing.assert_array_equal(ImageLoader(save(tmp_path / "a.png", image), camera_model, 32, 24)(), image)
    assert undistorted_camera(camera_model) == Camera(32, 24, 30.0, 31.0, 15.0, 12.5)


def test_every_colmap_model_survives_the_round_trip() -> None:
    camera = pycolmap.Camera(
        model="OPENCV_FISHEYE", width=64, height=48, params=[40, 41, 32, 24, 0.1, 0, 0, 0]
    )
    camera_model = CameraModel.from_colmap(camera)
    assert camera_model.colmap().params.tolist() == camera.params.tolist()
    assert camera_model.distorted
    assert camera_model.resized(32, 24).params[:4] == (20.0, 20.5, 16.0, 12.0)


def test_shrinking_averages_areas() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 200
    np.testing.assert_array_equal(resize_rgb(image, 2, 2)[0, 0], [50, 50, 50])


def test_the_header_tells_the_size_and_ignores_exif_rotation(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees to show
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert image_size(tmp_path / "turned.jpg") == (30, 20)
    assert decode_rgb(tmp_path / "turned.jpg").shape == (20, 30, 3)


def test_channels_come_as_rgb(tmp_path: Path) -> None:
    path = save(tmp_path / "red.png", np.full((2, 2, 3), (255, 10, 0), np.uint8))
    assert decode_rgb(path)[0, 0].tolist() == [255, 10, 0]


@pytest.mark.parametrize(("white", "expected"), [(False, 50), (True, 205)])
def test_transparency_shows_the_background(tmp_path: Path, white: bool, expected: int) -> None:
    rgba = np.full((2, 2, 4), (127, 127, 127, 100), np.uint8)
    assert decode_rgb(save(tmp_path / "glass.png", rgba), white)[0, 0].tolist() == [expected] * 3


def test_depth_is_metres_with_both_invalid_codes_zero(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 1500], [65535, 65534, 800]], np.uint16)
    depth = decode_depth(save(tmp_path / "d.png", stored))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 0.001, 1.5], [0, 65.534, 0.8]], rtol=1e-6)


def test_depth_is_never_blended_across_an_edge(tmp_path: Path) -> None:
    stored = np.repeat(np.array([[1000, 3000] * 8], np.uint16), 8, 0)
    camera_model = CameraModel("PINHOLE", 16, 8, (10.0, 10.0, 8.0, 4.0))
    depth = DepthLoader(save(tmp_path / "d.png", stored), camera_model, 5, 3)()
    assert depth.shape == (3, 5)
    assert set(np.unique(depth).tolist()) <= {1.0, 3.0}


def test_depth_of_eight_bits_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "d.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(GSplatLocError, match="16-bit depth"):
        decode_depth(path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"not an image")
    with pytest.raises(GSplatLocError, match=r"broken\.jpg"):
        image_size(path)
    with pytest.raises(GSplatLocError, match=r"broken\.jpg"):
        decode_rgb(path)


def test_an_image_that_changed_size_since_reading_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(GSplatLocError, match="160x120"):
        ImageLoader(path, BARREL, 160, 120)()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    stored = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    upright = decode_upright(tmp_path / "a.png")
    np.testing.assert_array_equal(upright, expected)
    assert upright_size(tmp_path / "a.png") == (upright.shape[1], upright.shape[0])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_any_kind_of_photo_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60), 128 * 257, np.uint16))
    else:
        Image.new("L", (60, 40), 255 if mode == "1" else 128).convert(mode).save(tmp_path / "a.png")
    image = decode_upright(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert abs(int(image[20, 30, 0]) - (255 if mode == "1" else 128)) <= 1
