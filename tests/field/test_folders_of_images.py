"""Folders of photos as people keep them: links, hidden copies, videos, other endings."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsplatloc.localization.queries import queries_in_folder
from gsplatloc.scene.image_files import image_files, unread_files
from gsplatloc.scene.images import decode_rgb
from gsplatloc.utils.errors import GSplatLocError


def photo(path: Path, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, kind)
    return path


def test_photos_in_linked_folders_are_found_once(tmp_path: Path) -> None:
    folder = tmp_path / "queries"
    photo(tmp_path / "elsewhere" / "day" / "a.png")
    photo(folder / "b.png")
    (folder / "trip").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder)
    (folder / "day").symlink_to(tmp_path / "elsewhere" / "day")
    (folder / "gone.png").symlink_to(tmp_path / "gone.png")
    found = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    assert found == ["b.png", "day/a.png"]


def test_hidden_copies_are_no_photos(tmp_path: Path) -> None:
    for name in (".thumbnails/a.png", "__MACOSX/a.png", "@eaDir/a.png", "._a.png", "a.png"):
        photo(tmp_path / name)
    assert image_files(tmp_path) == [tmp_path / "a.png"]


def test_videos_and_other_pictures_are_named(tmp_path: Path) -> None:
    for name in ("clip.MP4", "clip2.mov", "scan.pdf", "sub/photos.zip", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    counts = "1 .mov and 1 .mp4 and 1 .pdf and 1 .zip files"
    assert unread_files(tmp_path).startswith(counts)
    with pytest.raises(GSplatLocError, match=counts):
        queries_in_folder(tmp_path)
    with pytest.raises(GSplatLocError, match="found a video: extract its frames"):
        queries_in_folder(tmp_path / "clip.MP4")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jfif", "JPEG"), ("a.JPE", "JPEG"), ("a.MPO", "MPO"), ("a.jpg", "PNG"), ("a.png", "WEBP")],
)
def test_the_content_of_a_file_decides(tmp_path: Path, name: str, kind: str) -> None:
    photo(tmp_path / name, kind)
    (query,) = queries_in_folder(tmp_path)
    assert query.name == name and query.load_image().shape == (24, 32, 3)


def test_a_brush_of_a_drawing_program_takes_no_memory(tmp_path: Path) -> None:
    """Pillow reads its comment, of as many bytes as its header says."""
    path = tmp_path / "a.png"
    numbers = (2**32 - 1, 2, 1, 1, 1)
    path.write_bytes(b"".join(number.to_bytes(4, "big") for number in numbers) + b"GIMP" + bytes(40))
    with pytest.raises(GSplatLocError, match=r"expected an image at .*a\.png"):
        decode_rgb(path)


def test_transparency_is_of_the_content_and_not_of_the_name(tmp_path: Path) -> None:
    image = np.full((24, 32, 4), 200, np.uint8)
    image[:, :16, 3], image[:, 16:, 3] = 0, 255
    Image.fromarray(image).save(tmp_path / "a.jpg", "PNG")
    assert decode_rgb(tmp_path / "a.jpg")[0, [0, 31]].tolist() == [[0, 0, 0], [200, 200, 200]]
