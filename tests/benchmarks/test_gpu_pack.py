"""What travels to a GPU machine without a network."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu_pack import DROPPED, pack_packages, pack_scene
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text


def test_a_scene_travels_without_the_depth_of_its_test_images(tmp_path: Path) -> None:
    for name in ("train/poses/a.txt", "train/depth/a.png", "test/rgb/b.png", "test/depth/b.png"):
        write_text(tmp_path / "scene" / name, "1234")
    assert pack_scene(tmp_path / "scene", tmp_path / "packed") == 3 * 4
    packed = {str(path.relative_to(tmp_path / "packed")) for path in (tmp_path / "packed").rglob("*.*")}
    assert packed == {"train/poses/a.txt", "train/depth/a.png", "test/rgb/b.png"}


def test_another_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="posed folders"):
        pack_scene(tmp_path, tmp_path / "packed")
    with pytest.raises(GSplatLocError, match=r"\.whl"):
        pack_packages(tmp_path, tmp_path / "packages.tar.xz")


def test_wheels_become_one_archive_without_what_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "a-1-py3-none-any.whl", "w") as archive:
        archive.writestr("a/__init__.py", "x = 1")
        archive.writestr(DROPPED[-1], "weights")
    pack_packages(tmp_path / "wheels", tmp_path / "packages.tar.xz")
    with tarfile.open(tmp_path / "packages.tar.xz") as packed:
        names = {Path(name).as_posix() for name in packed.getnames()}
    assert "a/__init__.py" in names and DROPPED[-1] not in names
