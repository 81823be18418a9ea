"""Image files as people have them: odd names, cut, larger than libraries allow, or with false headers."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gsplatloc.datasets.photos import collect
from gsplatloc.localization.io.poses import PoseRecord, read_poses, write_poses
from gsplatloc.localization.quarter_turns import turn_image
from gsplatloc.localization.queries import as_rgb, exif_focal, queries_in_folder
from gsplatloc.scene.image_files import unread_files
from gsplatloc.scene.image_header import ORIENTATION, check_complete
from gsplatloc.scene.images import (
    CameraModel,
    DepthLoader,
    decode_depth,
    decode_rgb,
    decode_upright,
    image_size,
    upright_size,
)
from gsplatloc.utils.errors import GSplatLocError


def photo(height: int = 120, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encoded(ending: str, image: np.ndarray) -> bytes:
    return cv2.imencode(ending, image)[1].tobytes()


def png_header(width: int, height: int, bits: int, color: int) -> bytes:
    """A PNG without image data."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    header = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + header + b"\0\0\0\0IDAT"


def test_a_file_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"K\xfcche.png")
    path.write_bytes(encoded(".png", photo()))
    assert decode_rgb(path).shape == (120, 160, 3)
    (query,) = queries_in_folder(tmp_path)
    assert query.load_image().shape == (120, 160, 3)
    query.load_camera()
    write_poses(tmp_path / "poses.txt", [PoseRecord(query.name, torch.eye(4, dtype=torch.float64))])
    assert list(read_poses(tmp_path / "poses.txt")) == [query.name]


def test_copies_of_photos_have_names_that_colmap_takes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"K\xfcche.png")).write_bytes(encoded(".png", photo()))
    (tmp_path / "K\u00fcche.png").write_bytes(encoded(".png", 255 - photo()))
    assert collect(tmp_path, tmp_path / "copies", 5, 200) == 2
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == ["K%FCche.png", "K\u00fcche.png"]


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97])
def test_a_cut_image_is_refused_in_one_line_that_names_it(tmp_path: Path, ending: str, share: float) -> None:
    data = encoded(ending, photo())
    path = tmp_path / f"cut{ending}"
    path.write_bytes(data[: int(share * len(data))])
    for read in (decode_rgb, decode_upright):
        with pytest.raises(GSplatLocError, match=f"cut{ending}") as raised:
            read(path)
        assert "\n" not in str(raised.value)


def test_a_cut_photo_with_a_thumbnail_is_refused(tmp_path: Path) -> None:
    data = encoded(".jpg", photo())
    thumbnail = b"Exif\0\0" + encoded(".jpg", photo(12, 16))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    path = tmp_path / "photo.jpg"
    path.write_bytes(whole + b"data of a motion photo" * 500)
    check_complete(path)
    assert decode_rgb(path).shape == (120, 160, 3)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GSplatLocError, match="cut short"):
        check_complete(path)


def test_a_file_that_was_filled_with_zeros_is_refused(tmp_path: Path) -> None:
    data = encoded(".jpg", photo())
    path = tmp_path / "download.jpg"
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(GSplatLocError, match=r"download\.jpg"):
        decode_rgb(path)


def test_more_than_179_megapixels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "panorama.png"
    path.write_bytes(encoded(".png", np.full((10_000, 18_000), 7, np.uint8)))
    assert image_size(path) == (18_000, 10_000)
    assert decode_rgb(path).shape == (10_000, 18_000, 3)


@pytest.mark.parametrize(("bits", "color"), [(16, 0), (8, 0), (8, 2), (16, 6), (1, 0)])
@pytest.mark.parametrize("side", [20_000, 32_000, 1_000_000])
def test_a_header_that_claims_gigapixels_costs_no_memory(
    tmp_path: Path, bits: int, color: int, side: int
) -> None:
    path = tmp_path / "depth.png"
    path.write_bytes(png_header(side, side, bits, color))
    model = CameraModel("PINHOLE", 160, 120, (100.0, 100.0, 80.0, 60.0))
    for read in (image_size, decode_rgb, decode_depth, lambda path: DepthLoader(path, model, 160, 120)()):
        with pytest.raises(GSplatLocError, match=r"depth\.png"):
            read(path)


def test_a_smaller_depth_map_of_a_distorted_camera_is_undistorted_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    path.write_bytes(encoded(".png", np.full((60, 80), 1500, np.uint16)))
    model = CameraModel("SIMPLE_RADIAL", 160, 120, (100.0, 80.0, 60.0, -0.05))
    assert np.median(DepthLoader(path, model, 160, 120)()) == pytest.approx(1.5)
    path.write_bytes(encoded(".png", np.full((80, 60), 1500, np.uint16)))
    with pytest.raises(GSplatLocError, match="60x80"):
        DepthLoader(path, model, 160, 120)()


def test_photos_in_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("a.JXL", "b.jxl", "c.dng", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert unread_files(tmp_path) == "1 .dng and 2 .jxl files, for example a.JXL (convert them)"
    with pytest.raises(GSplatLocError, match=r"found 1 \.dng and 2 \.jxl"):
        queries_in_folder(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_rotated_once(tmp_path: Path, mode: str, compression: str | None, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(photo()).convert(mode)
    stored.save(tmp_path / "a.tif", exif=exif, compression=compression)
    stored.save(tmp_path / "stored.png" if mode != "CMYK" else tmp_path / "stored.tif")
    expected = decode_rgb(tmp_path / ("stored.png" if mode != "CMYK" else "stored.tif"))
    np.testing.assert_array_equal(decode_rgb(tmp_path / "a.tif"), expected)
    assert image_size(tmp_path / "a.tif") == (160, 120)
    upright = decode_upright(tmp_path / "a.tif")
    assert upright_size(tmp_path / "a.tif") == upright.shape[1::-1]
    Image.fromarray(expected).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(upright, ImageOps.exif_transpose(Image.open(tmp_path / "b.png")))


def test_depth_in_a_rotated_tiff_is_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    depth = np.arange(120 * 160, dtype=np.uint16).reshape(120, 160)
    Image.fromarray(depth).save(tmp_path / "depth.tif", exif=exif)
    np.testing.assert_allclose(decode_depth(tmp_path / "depth.tif"), depth / np.float32(1000))


@pytest.mark.parametrize(("name", "lossless"), [("a.webp", True), ("a.webp", False), ("a.tif", True)])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_hole_in_the_compressed_data_is_found(
    tmp_path: Path, name: str, lossless: bool, share: float
) -> None:
    """As files have that were not wholly downloaded or copied: zeros where parts are missing."""
    options = {"compression": "tiff_lzw"} if name == "a.tif" else {"lossless": lossless}
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name, **options)
    assert decode_rgb(tmp_path / name).shape == (240, 320, 3)
    data = bytearray((tmp_path / name).read_bytes())
    start = int(share * len(data))
    data[start : start + 4096] = bytes(4096)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(GSplatLocError, match=name):
        decode_rgb(tmp_path / name)


@pytest.mark.parametrize("kind", ["16 bits", "CMYK", "transparent", "tiff"])
def test_photos_of_all_kinds_are_collected_as_they_are(tmp_path: Path, kind: str) -> None:
    (tmp_path / "photos").mkdir()
    grey = cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY)
    source = tmp_path / "photos" / ("a.tif" if kind in ("CMYK", "tiff") else "a.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    if kind == "16 bits":
        source.write_bytes(encoded(".png", grey.astype(np.uint16) * 257))
    elif kind == "tiff":
        Image.fromarray(photo()).save(source, exif=exif)
    else:
        Image.fromarray(photo()).convert("CMYK" if kind == "CMYK" else "RGBA").save(source)
    collect(tmp_path / "photos", tmp_path / "out", 5, 1600, quiet=True)
    (copy,) = (tmp_path / "out").iterdir()
    np.testing.assert_array_equal(decode_upright(copy), decode_upright(source))
    assert decode_rgb(copy).std() > 5


@pytest.mark.parametrize("focal", [0, 1, 65535])
def test_a_focal_length_that_no_lens_has_is_not_known(tmp_path: Path, focal: int) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = focal
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=exif)
    assert exif_focal(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_an_image_of_one_pixel_can_be_turned(quarters: int) -> None:
    """Its strides stay negative in what numpy calls contiguous, and torch refuses them."""
    assert torch.from_numpy(turn_image(np.zeros((1, 1, 3), np.uint8), quarters)).shape == (1, 1, 3)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0), (0, 0, 3)])
def test_an_image_without_pixels_is_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(GSplatLocError, match="expected an image with pixels"):
        as_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            "a pointer .* in its place: run git lfs pull$",
        ),
        (b"<!DOCTYPE html><html>404</html>", "a page of the web"),
        (b"\0\0\0\x1cftypavif", "a picture in the format AVIF"),
    ],
)
def test_what_is_in_the_place_of_an_image_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(GSplatLocError, match=f"expected an image at .*a.jpg, found {found}"):
        decode_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_a_transparent_colour_is_transparent(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (8, 8), 1 if mode == "P" else (9, 9, 9))
    if mode == "P":
        image.putpalette([200, 100, 50, 9, 9, 9])
    image.putpixel((0, 0), 0 if mode == "P" else (200, 100, 50))
    image.save(tmp_path / "a.png", transparency=1 if mode == "P" else (9, 9, 9))
    assert decode_rgb(tmp_path / "a.png")[0, 0].tolist() == [200, 100, 50]
    assert decode_rgb(tmp_path / "a.png")[1:].max() == 0
    assert decode_rgb(tmp_path / "a.png", white_background=True)[1:].min() == 255


@pytest.mark.parametrize("name", ["a\0b.png", 300 * "a"])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(GSplatLocError, match="expected an image at .*, found no file: check the path"):
        decode_rgb(tmp_path / name)
