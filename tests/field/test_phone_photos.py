"""Photos of phones: portrait among landscape, several lenses, .heic files."""

import io
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from gsplatloc.datasets.options import MappingOptions
from gsplatloc.datasets.photos import collect
from gsplatloc.datasets.structure_from_motion import extract_features
from gsplatloc.localization.queries import CameraPrior, queries_in_folder
from gsplatloc.scene import image_header
from gsplatloc.scene.image_files import unread_files
from gsplatloc.scene.images import decode_rgb, image_size
from gsplatloc.utils.errors import GSplatLocError


def photo(height: int = 96, width: int = 128) -> Image.Image:
    noise = np.random.default_rng(height).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2))


def exif(focal_mm: float = 4.2, focal_35mm: int = 26) -> Image.Exif:
    data = Image.Exif()
    data.get_ifd(0x8769).update({0x920A: focal_mm, 0xA405: focal_35mm})
    return data


def test_photos_of_every_shape_and_lens_have_keypoints_and_a_camera(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name, image, lens in (
        ("0.jpg", photo(), exif()),
        ("1.jpg", photo(), exif()),
        ("2.jpg", photo(128, 96), exif()),
        ("3.jpg", photo(128, 96), exif()),
        ("wide.jpg", photo(), exif(1.5, 13)),
    ):
        image.save(images / name, quality=95, exif=lens)
    extract_features(tmp_path / "database.db", images, MappingOptions())
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        found = {image.name: image.camera_id for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
        assert all(database.num_keypoints_for_image(image.image_id) for image in database.read_all_images())
    assert sorted(found) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "wide.jpg"]
    assert found["0.jpg"] == found["1.jpg"] and found["2.jpg"] == found["3.jpg"]
    assert len(cameras) == 3
    assert cameras[found["wide.jpg"]].focal_length < 0.6 * cameras[found["0.jpg"]].focal_length


def write_heic(path: Path) -> np.ndarray:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    image = photo()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95, exif=exif())
    return np.asarray(image)


def test_heic_photos_are_read_with_their_focal_length(tmp_path: Path) -> None:
    image = write_heic(tmp_path / "in" / "IMG_1.HEIC")
    assert image_size(tmp_path / "in" / "IMG_1.HEIC") == (128, 96)
    difference = decode_rgb(tmp_path / "in" / "IMG_1.HEIC").astype(int) - image
    assert np.abs(difference).mean() < 5
    assert collect(tmp_path / "in", tmp_path / "out", frames=0, max_side=64) == 1
    assert image_size(tmp_path / "out" / "IMG_1.HEIC.jpg") == (64, 48)
    for folder, width in (("in", 128), ("out", 64)):
        (query,) = queries_in_folder(tmp_path / folder)
        camera = query.load_camera()
        assert isinstance(camera, CameraPrior)
        assert camera.camera.fx == pytest.approx(26 / 36 * width, rel=0.05)


def test_heic_photos_are_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_header, "reads_heif", lambda: False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(GSplatLocError, match=r"pillow-heif to read .*a\.jpg.*gsplatloc\[heic\]"):
        decode_rgb(tmp_path / "a.jpg")
    buffer = io.BytesIO()
    photo().save(buffer, "PNG")
    (tmp_path / "b.heic").write_bytes(buffer.getvalue())
    assert decode_rgb(tmp_path / "b.heic").ndim == 3


def test_heic_photos_that_are_not_read_are_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_header, "reads_heif", lambda: False)
    monkeypatch.setattr("gsplatloc.scene.image_files.reads_heif", lambda: False)
    (tmp_path / "in").mkdir()
    for name in ("IMG_1.HEIC", "IMG_2.heic", ".IMG_2.heic"):
        (tmp_path / "in" / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(GSplatLocError, match=r"IMG_1.*gsplatloc\[heic\]"):
        decode_rgb(tmp_path / "in" / "IMG_1.HEIC")
    for read in (queries_in_folder, lambda folder: collect(folder, tmp_path / "out", 0, 100)):
        with pytest.raises(GSplatLocError, match=r"found 2 \.heic files.*IMG_1.*gsplatloc\[heic\]"):
            read(tmp_path / "in")
    buffer = io.BytesIO()
    photo().save(buffer, "JPEG")
    (tmp_path / "in" / "a.jpg").write_bytes(buffer.getvalue())
    assert collect(tmp_path / "in", tmp_path / "out", 0, 100) == 1
    assert "left out 2 .heic files, for example IMG_1.HEIC" in capsys.readouterr().err
    assert unread_files(tmp_path / "out") == ""
