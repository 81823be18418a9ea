"""Unpacking: nothing leaves the folder, nothing half is left unsaid."""

import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsplatloc.utils.archives import extract
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


def changed(archive: Path, offset_local: int, offset_central: int, value: bytes) -> None:
    """Overwrite a field of the first entry in its local and its central header."""
    content = bytearray(archive.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[offset_local : offset_local + len(value)] = value
    content[central + offset_central : central + offset_central + len(value)] = value
    archive.write_bytes(content)


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"x.txt": b"x"})
    changed(archive, 6, 8, struct.pack("<H", 1))
    with pytest.raises(GSplatLocError, match="password"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "name"),
    [(93, "zstd"), (9, "deflate64"), (12, "bzip2"), (14, "lzma"), (95, "xz"), (77, "method 77")],
)
def test_other_compressions_are_named(tmp_path: Path, method: int, name: str) -> None:
    archive = make(tmp_path / "a.zip", {"x.txt": b"x"})
    changed(archive, 8, 10, struct.pack("<H", method))
    with pytest.raises(GSplatLocError, match=rf"deflate.*{name}"):
        extract(archive, tmp_path / "out")


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):
            archive.writestr(f"{number}.bin", bytes(20 << 20))
    with pytest.raises(GSplatLocError, match="to unpack"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_drive_that_does_not_know_its_size_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, used=0, free=0))
    extract(make(tmp_path / "a.zip", {"x.txt": b"x"}), tmp_path / "out")
    assert (tmp_path / "out" / "x.txt").read_bytes() == b"x"


def test_a_claimed_size_is_not_believed(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"x.txt": b"x"})
    changed(archive, 22, 24, struct.pack("<I", 3 << 30))
    with pytest.raises(GSplatLocError, match="to unpack"):
        extract(archive, tmp_path / "out")


def test_a_damaged_entry_that_is_not_wanted_does_no_harm(tmp_path: Path) -> None:
    """The archives of 7-Scenes hold damaged thumbnails."""
    archive = make(tmp_path / "a.zip", {"Thumbs.db": b"x" * 100, "a.png": b"image"})
    content = bytearray(archive.read_bytes())
    content[60:70] = b"\xff" * 10
    archive.write_bytes(content)
    extract(archive, tmp_path / "out", lambda name: name.endswith(".png"))
    assert (tmp_path / "out" / "a.png").read_bytes() == b"image"


def test_every_cut_and_every_changed_byte_is_one_line(tmp_path: Path) -> None:
    """Whatever is damaged, the outcome is success or a `GSplatLocError`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("s/x.txt", b"x" * 50)
        made.writestr("\u00e9.txt", b"y")
    whole, refused = buffer.getvalue(), 0
    damaged = [whole[:size] for size in range(0, len(whole), 7)]
    for place in range(len(whole)):
        for value in (0, 0x80, 0xFF):
            damaged.append(whole[:place] + bytes([value]) + whole[place + 1 :])
    for content in damaged:
        (tmp_path / "a.zip").write_bytes(content)
        try:
            extract(tmp_path / "a.zip", tmp_path / "out")
        except GSplatLocError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(damaged) // 4


def test_a_folder_or_a_link_to_itself_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    (tmp_path / "b.zip").symlink_to("b.zip")
    for name in ("a.zip", "b.zip"):
        with pytest.raises(GSplatLocError, match=name):
            extract(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("folders", [True, False])
def test_backslashes_of_windows_are_folders(tmp_path: Path, folders: bool) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in [*(["scene\\", "scene\\rgb\\"] if folders else []), "scene\\rgb\\a.png"]:
            entry = zipfile.ZipInfo(name)
            entry.create_system = 0
            archive.writestr(entry, b"" if name.endswith("\\") else b"pixels")
    extract(tmp_path / "a.zip", tmp_path / "out")
    files = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")]
    assert files == ["scene/rgb/a.png"]


@pytest.mark.parametrize("name", ["K\u00fcche/\u706b.png", "caf\u00e9.txt", "plain.txt"])
def test_names_of_utf8_without_its_flag_are_read(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        flags = data.index(signature) + at
        data[flags : flags + 2] = b"\0\0"
    (tmp_path / "a.zip").write_bytes(data)
    extract(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "x"
