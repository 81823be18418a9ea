"""Unpacking: nothing leaves the folder, nothing half is left unsaid."""

import stat
import zipfile
from pathlib import Path

import pytest

from gsplatloc.datasets.archives import extract
from gsplatloc.utils.errors import GSplatLocError


def make(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_wanted_entries_are_unpacked_in_place(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"s/x.txt": b"x", "s/deep/y.txt": b"y", "s/z.mp4": b"z"})
    extract(archive, tmp_path / "out", lambda name: not name.endswith(".mp4"))
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["s/deep/y.txt", "s/x.txt"]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_an_entry_that_leaves_the_folder_refuses_the_archive_whole(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / "a.zip", {"good.txt": b"good", name: b"evil"})
    with pytest.raises(GSplatLocError, match="outside"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil.txt").exists()


def test_a_link_refuses_the_archive(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc")
    with pytest.raises(GSplatLocError, match="link"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_an_unwanted_evil_entry_refuses_too(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"good.txt": b"good", "../evil.txt": b"evil"})
    with pytest.raises(GSplatLocError, match="outside"):
        extract(archive, tmp_path / "out", lambda name: name == "good.txt")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"x.txt": b"x" * 1000})
    content = bytearray(archive.read_bytes())
    content[100:110] = b"\xff" * 10
    archive.write_bytes(content)
    with pytest.raises(GSplatLocError, match=r"a\.zip"):
        extract(archive, tmp_path / "out")


def test_something_else_than_an_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>moved</html>")
    with pytest.raises(GSplatLocError, match=r"a\.zip"):
        extract(tmp_path / "a.zip", tmp_path / "out")
