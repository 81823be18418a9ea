"""The family of scene readers: which one reads a folder, and a reader in a file of somebody else."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gsplatloc.scene import read_scene
from gsplatloc.scene.readers import READERS
from gsplatloc.utils import registry
from gsplatloc.utils.errors import GSplatLocError

PHONES = ["stray_scanner", "polycam", "record3d", "scanner_app"]
TOY_READER = """
from pathlib import Path

import numpy as np
import torch

from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.images import CameraModel, image_size
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.views import make_view, split_test_views


@READERS.register("toy", help="frames.csv with `image,focal,x,y,z` lines (toy)"{priority})
class ToyReader:
    def matches(self, path: Path) -> bool:
        return (path / "frames.csv").is_file()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        views = []
        for line in (path / "frames.csv").read_text().splitlines():
            name, focal, *center = line.split(",")
            width, height = image_size(path / name)
            camera_model = CameraModel("SIMPLE_PINHOLE", width, height, (float(focal), width / 2, height / 2))
            cam_from_world = torch.eye(4, dtype=torch.float64)
            cam_from_world[:3, 3] = -torch.tensor([float(value) for value in center])
            views.append(make_view(name, path / name, camera_model, cam_from_world, options))
        return Scene(path.name, path, *split_test_views(views, options))
"""


@pytest.fixture
def toy_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a reader that GSPLATLOC_PLUGINS names; the test writes it."""
    path = tmp_path / "toy_reader.py"
    built_in = {entry.name: entry for entry in READERS.entries()}
    monkeypatch.setenv("GSPLATLOC_PLUGINS", str(path))
    monkeypatch.setattr(READERS, "_entries", built_in)
    monkeypatch.setattr(READERS, "_loaded", False)
    monkeypatch.setattr(registry, "_load_plugins", registry._load_plugins.__wrapped__)  # not cached
    return path


def make_toy_scene(folder: Path) -> Path:
    folder.mkdir()
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(folder / name), np.zeros((24, 32, 3), np.uint8))
    (folder / "frames.csv").write_text("b.png,30,1,2,3\na.png,30,0,0,0\n")
    return folder


def test_a_third_persons_reader_is_one_file(tmp_path: Path, toy_plugin: Path) -> None:
    toy_plugin.write_text(TOY_READER.replace("{priority}", ""))
    scene = read_scene(make_toy_scene(tmp_path / "scene"))
    assert [view.name for view in scene.train] == ["a.png", "b.png"]
    assert scene.train[1].cam_from_world[:3, 3].tolist() == [-1, -2, -3]
    assert scene.train[0].load_image().shape == (24, 32, 3)


@pytest.mark.parametrize(("priority", "reads"), [("", "colmap"), (", priority=100", "toy")])
def test_the_highest_priority_reads_what_several_readers_match(
    tmp_path: Path, toy_plugin: Path, priority: str, reads: str
) -> None:
    toy_plugin.write_text(TOY_READER.replace("{priority}", priority))
    scene = make_toy_scene(tmp_path / "scene")
    (scene / "sparse" / "0").mkdir(parents=True)
    (scene / "sparse" / "0" / "images.txt").write_text("")
    matching = [entry.name for entry in READERS.entries() if entry.make().matches(scene)]
    assert matching[0] == reads and sorted(matching) == ["colmap", "toy"]


def test_the_order_of_the_readers(tmp_path: Path) -> None:
    names = [entry.name for entry in READERS.entries()]
    assert names == ["posed_folders", "colmap", "transforms", "tum_rgbd", *PHONES, "replica"]


def test_an_unknown_layout_is_an_error_with_a_line_of_every_reader(tmp_path: Path, toy_plugin: Path) -> None:
    toy_plugin.write_text(TOY_READER.replace("{priority}", ""))
    with pytest.raises(GSplatLocError, match="found no known layout") as error:
        read_scene(tmp_path)
    for entry in READERS.entries():
        assert entry.help and entry.help in str(error.value)
    assert "frames.csv" in str(error.value)


def test_a_missing_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected a scene folder"):
        read_scene(tmp_path / "nowhere")
