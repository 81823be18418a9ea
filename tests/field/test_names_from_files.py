"""Names inside a map or a pose file do not decide where files are written."""

from pathlib import Path

import numpy as np
import pytest

from gsplatloc.utils.io import output_path
from gsplatloc.visualization.pictures import QueryPicture, write_pictures
from gsplatloc.visualization.rendering import ImageOptions, Renderings, write_images

HOSTILE = ["../../escaped.png", "/abs/x.png", "..\\..\\x.png", "C:\\x.png", "a/../../x", "", "..", "/", ".",
           "x" * 4000, "a\nb\x00c.png", "caf\udce9.png", "ü" * 300, "CON:x", "~/x",
           "/".join(["abcdefghijklmnop"] * 300)]  # fmt: skip
IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_rendering_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "renders"
    write_images(folder, [Renderings(name, {"rgb": IMAGE})], 1, ImageOptions(video=False))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 1 and written[0].resolve().is_relative_to(folder / "rgb")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_picture_of_a_query_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "pictures"
    picture = QueryPicture(name, IMAGE, None, np.zeros((0, 2)), np.zeros(0, bool), None, None)
    (written,) = write_pictures(folder, [picture])
    assert written.is_file() and written.parent == folder


def test_different_names_have_different_files(tmp_path: Path) -> None:
    taken: set[Path] = set()
    names = ["x.png", "../x.png", "x.jpg", "1305031102.175304", "1305031102.275304", "seq/x.png"]
    paths = [output_path(tmp_path, name, ".png", taken).relative_to(tmp_path).as_posix() for name in names]
    assert paths == [
        "x.png",
        "x-2.png",
        "x-3.png",
        "1305031102.175304.png",
        "1305031102.275304.png",
        "seq/x.png",
    ]
