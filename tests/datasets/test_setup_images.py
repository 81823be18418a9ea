"""Own photos and videos: collected upright and sharp, posed by COLMAP."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from gsplatloc.datasets.options import MappingOptions
from gsplatloc.datasets.photos import collect
from gsplatloc.datasets.structure_from_motion import reconstruct
from gsplatloc.scene import read_scene
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.datasets.commands import run_python

ORIENTATION, FOCAL_LENGTH_35MM = 0x0112, 0xA405  # EXIF tags


def test_photos_come_upright_small_and_with_their_focal_length(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by a quarter clockwise
    exif.get_ifd(0x8769)[FOCAL_LENGTH_35MM] = 28
    picture = Image.new("RGB", (400, 200))
    picture.paste((255, 0, 0), (0, 0, 200, 200))  # left half red: the upper half, upright
    (tmp_path / "in" / "sub").mkdir(parents=True)
    picture.save(tmp_path / "in" / "sub" / "a.jpg", exif=exif)
    assert collect(tmp_path / "in", tmp_path / "out", frames=0, max_side=100) == 1
    with Image.open(tmp_path / "out" / "sub" / "a.jpg") as result:
        assert result.size == (50, 100)
        assert result.getpixel((25, 20))[0] > 200 and result.getpixel((25, 80))[0] < 50
        assert ORIENTATION not in result.getexif()
        assert result.getexif().get_ifd(0x8769)[FOCAL_LENGTH_35MM] == 28


def test_upright_photos_that_fit_are_kept_as_they_are(tmp_path: Path) -> None:
    """Neither decoded and encoded once more, nor the lossy file of another format under this name."""
    (tmp_path / "in").mkdir()
    a, b, c, d = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    Image.fromarray(a).save(tmp_path / "in" / "a.JPG", quality=60)
    Image.fromarray(b).save(tmp_path / "in" / "b.png")
    Image.fromarray(c).save(tmp_path / "in" / "c.jpg", format="PNG")
    Image.fromarray(d[..., 0]).save(tmp_path / "in" / "d.png")
    assert collect(tmp_path / "in", tmp_path / "out", frames=0, max_side=64) == 4
    for name in ("a.JPG", "b.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    with Image.open(tmp_path / "out" / "c.jpg") as other, Image.open(tmp_path / "out" / "d.png") as grey:
        assert other.format == "JPEG" and grey.mode == "RGB"


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected photos"):
        collect(tmp_path, tmp_path / "out", frames=1, max_side=100)


def test_a_source_that_is_neither_folder_nor_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="nothing.mp4"):
        collect(tmp_path / "nothing.mp4", tmp_path / "out", frames=1, max_side=100)


def test_the_sharpest_frame_of_each_stretch_of_a_video_is_kept(tmp_path: Path) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (24, 32, 1), dtype=np.uint8).repeat(3, 2)
    sharp = cv2.resize(texture, (320, 240), interpolation=cv2.INTER_NEAREST)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 8)
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for index in range(12):
        writer.write(sharp if index % 4 == 2 else blurred)
    writer.release()
    assert collect(tmp_path / "film.avi", tmp_path / "out", frames=3, max_side=160) == 3
    for path in sorted((tmp_path / "out").iterdir()):
        kept = cv2.imread(str(path))
        assert kept.shape == (120, 160, 3)
        assert cv2.Laplacian(cv2.cvtColor(kept, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var() > 500


def test_too_little_room_for_colmap_is_refused_before_it_aborts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000, total=10**9))
    with pytest.raises(GSplatLocError, match="expected 0.0328 GB .+ found 0.01 GB.+--max-features"):
        reconstruct(tmp_path, tmp_path / "model", tmp_path, 10, MappingOptions())


def run(source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    words = ["--input", source, "--name", "mine", "--output", output, "--max-features", 4000]
    return run_python("datasets/setup_images.py", *words)


def test_photos_become_a_scene_whose_rotations_are_right(shared_data: Path, tmp_path: Path) -> None:
    truth = {view.name: view for view in read_scene(shared_data / "pgt_7scenes_redkitchen").train[:25:5]}
    (tmp_path / "photos").mkdir()
    for view in truth.values():
        shutil.copy(view.image_path, tmp_path / "photos")
    result = run(tmp_path / "photos", tmp_path)
    assert result.returncode == 0, result.stderr
    scene = read_scene(tmp_path / "mine")
    assert len(scene.train) == len(truth) and scene.points is not None
    first = scene.train[0]
    for view in scene.train[1:]:
        ours = view.cam_from_world @ se3.inverse(first.cam_from_world)
        theirs = truth[view.name].cam_from_world @ se3.inverse(truth[first.name].cam_from_world)
        angle = torch.linalg.norm(se3.so3_log(ours[:3, :3] @ theirs[:3, :3].T))
        assert torch.rad2deg(angle) < 2.0  # the focal length comes from five images alone


def test_photos_that_do_not_overlap_are_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 256, (120, 160, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), noise)
    result = run(tmp_path / "photos", tmp_path)
    assert result.returncode == 1
    assert "expected 2 images that overlap" in result.stderr
    assert not (tmp_path / "mine").exists()


def test_copies_of_a_photo_are_left_out_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red"), ("d", "red")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "in" / f"{name}.png")
    assert collect(tmp_path / "in", tmp_path / "out", frames=0, max_side=100) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert "left out 2 copies of other photos, as c.png" in capsys.readouterr().err
    for name in ("x", "y"):
        (tmp_path / "in" / f"{name}.jpg").write_bytes(b"damaged")
    assert collect(tmp_path / "in", tmp_path / "out", frames=0, max_side=100) == 2
    assert "left out 2 photos that are damaged, as x.jpg" in capsys.readouterr().err


def test_a_video_of_which_no_frame_can_be_decoded_is_one_line(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(9):
        writer.write(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + 30_000] = bytes(min(30_000, len(data) - start))
    index = data.find(b"moov")
    if index > 0 and start + 30_000 > index:  # the index of the frames is left whole
        data[index:] = video.read_bytes()[index:]
    video.write_bytes(data)
    with pytest.raises(GSplatLocError, match="no frame of it can be decoded|none that can be decoded"):
        collect(video, tmp_path / "out", frames=3, max_side=100)
