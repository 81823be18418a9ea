"""A scene with damaged photos is read without them, with a count, or not at all if that was asked for."""

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gsplatloc.datasets.photos import collect
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.image_header import is_complete
from gsplatloc.scene.images import check_decodable, decode_rgb
from gsplatloc.scene.readers.views import without_damaged
from gsplatloc.utils.errors import GSplatLocError

DAMAGES = {"cut": lambda data: data[: len(data) // 2], "empty": lambda data: b"", "text": lambda data: b"404"}


def write_scene(root: Path) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for stem in ("a", "b", "c"):
            for folder, name in (("rgb", f"{stem}.color.jpg"), ("poses", f"{stem}.pose.txt"),
                                 ("calibration", f"{stem}.calibration.txt")):  # fmt: skip
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                path = root / split / folder / name
                if folder == "rgb":
                    cv2.imwrite(str(path), random.integers(0, 255, (48, 64, 3)).astype(np.uint8))
                else:
                    path.write_text("50" if folder == "calibration" else "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")
    return root


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_training_photo_is_left_out_with_a_count(tmp_path: Path, damage: str) -> None:
    path = write_scene(tmp_path) / "train" / "rgb" / "b.color.jpg"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    scene = without_damaged(read_scene(tmp_path))
    assert [view.image_path.name for view in scene.train] == ["a.color.jpg", "c.color.jpg"]
    assert len(scene.test) == 3
    assert "found 6 images, used" in scene.report
    assert "left out 1 " in scene.report and "damaged, for example b.color.jpg" in scene.report
    with pytest.raises(GSplatLocError, match=r"b\.color\.jpg"):
        without_damaged(read_scene(tmp_path, SceneOptions(strict=True)), strict=True)


@pytest.mark.parametrize(
    ("suffix", "whole", "end"),
    [(".png", 0.5, 12), (".png", 0.9, 0), (".tif", 0.7, 0), (".bmp", 0.5, 0), (".webp", 0.6, 0)],
)
def test_photos_that_begin_and_end_well_are_decoded_to_see_whether_they_are_whole(
    tmp_path: Path, suffix: str, whole: float, end: int
) -> None:
    path = write_scene(tmp_path) / "train" / "rgb" / "b.color.jpg"
    image = np.random.default_rng(1).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    data = bytearray(cv2.imencode(suffix, image)[1].tobytes())
    path.write_bytes(data)
    assert len(without_damaged(read_scene(tmp_path)).train) == 3
    cut = data[: int(whole * len(data))] + data[len(data) - end :]
    if suffix == ".bmp":
        cut[2:6] = len(cut).to_bytes(4, "little")
    path.write_bytes(cut)
    assert [view.image_path.name[0] for view in without_damaged(read_scene(tmp_path)).train] == ["a", "c"]


def test_a_heic_photo_of_which_blocks_were_not_written_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    image = np.random.default_rng(1).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    path = tmp_path / "a.heic"
    Image.fromarray(image).save(path, quality=95)
    check_decodable(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    for read in (check_decodable, decode_rgb):
        with pytest.raises(GSplatLocError, match="cut short"):
            read(path)


def box(kind: bytes, content: bytes, wide: bool = False) -> bytes:
    """A box of an ISO media file, with a length of 64 bits if `wide`."""
    length = len(content) + (16 if wide else 8)
    start = struct.pack(">I4sQ", 1, kind, length) if wide else struct.pack(">I4s", length, kind)
    return start + content


ZEROS, NOISE = bytes(5000), bytes(range(1, 200)) * 30
FTYP = box(b"ftyp", b"heic" + bytes(4))


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (FTYP + box(b"mdat", NOISE) + box(b"mpvd", FTYP + box(b"mdat", ZEROS)), True),  # a motion photo
        (FTYP + box(b"mdat", NOISE) + FTYP + box(b"mdat", ZEROS), True),  # a video that follows
        (FTYP + box(b"free", ZEROS) + box(b"mdat", NOISE, wide=True), True),
        (FTYP + box(b"mdat", NOISE) + ZEROS, True),
        (FTYP + box(b"free", b"") + box(b"mdat", NOISE + ZEROS, wide=True), False),
        (FTYP + struct.pack(">I4s", 0, b"mdat") + NOISE + ZEROS, False),  # to the end of the file
        (FTYP + box(b"mdat", NOISE + ZEROS)[:-100], False),
        (FTYP + box(b"meta", NOISE) + ZEROS, False),  # no data at all
        (FTYP + struct.pack(">I4s", 3, b"free") + NOISE, True),
    ],
)
def test_zeros_of_a_heic_photo_matter_in_its_data_alone(data: bytes, whole: bool) -> None:
    assert is_complete(io.BytesIO(data)) == whole


def test_photos_are_examined_with_a_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = read_scene(write_scene(tmp_path))
    assert without_damaged(scene) is scene
    assert "checking images: 100%" in capsys.readouterr().err
    without_damaged(scene, quiet=True)
    assert not capsys.readouterr().err


def test_a_cut_test_photo_remains_a_query(tmp_path: Path) -> None:
    path = write_scene(tmp_path) / "test" / "rgb" / "b.color.jpg"
    path.write_bytes(DAMAGES["cut"](path.read_bytes()))
    scene = read_scene(tmp_path)
    assert len(scene.test) == 3
    with pytest.raises(GSplatLocError, match="cut short"):
        scene.test[1].load_image()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_scene_of_damaged_photos_is_one_line(tmp_path: Path, damage: str) -> None:
    for path in (write_scene(tmp_path) / "train" / "rgb").iterdir():
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(GSplatLocError, match=r".\.color\.jpg"):
        without_damaged(read_scene(tmp_path))


def test_photos_are_collected_without_the_damaged_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_scene(tmp_path / "scene") / "train" / "rgb"
    path = photos / "b.color.jpg"
    path.write_bytes(DAMAGES["cut"](path.read_bytes()))
    assert collect(photos, tmp_path / "out", 10, 100, quiet=True) == 2
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.color.jpg", "c.color.jpg"]
    collect(photos, tmp_path / "out", 10, 100)
    assert "left out 1 photos that are damaged, as b.color.jpg" in capsys.readouterr().err
    for source, frames, max_side in ((photos, 10, 0), (photos, 10, -3), (Path("a.mp4"), 0, 100)):
        with pytest.raises(GSplatLocError, match="--max_side and --frames of at least 1"):
            collect(source, tmp_path / "out", frames, max_side)
    for path in photos.iterdir():
        path.write_bytes(b"")
    with pytest.raises(GSplatLocError, match=r"expected an image at .*\.color\.jpg"):
        collect(photos, tmp_path / "out", 10, 100, quiet=True)
