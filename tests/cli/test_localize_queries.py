"""Which images `gsplatloc localize` localizes: of folders, archives, phones' recordings and other scenes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.arguments.localization import CameraArguments, LocalizeArguments
from gsplatloc.cli.localize import find_queries
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import View
from gsplatloc.scene.map_config import MapConfig
from gsplatloc.utils.errors import GSplatLocError
from tests.scene import recordings

MAP = Path("map")  # nothing of it is read


@pytest.fixture(scope="module")
def views(room_path: Path) -> list[View]:
    return read_scene(room_path).train[:4]


@pytest.fixture
def clip(views: list[View], tmp_path: Path) -> Path:
    """The recording of a second walk, as an archive; poses start anew with each recording."""
    return recordings.zipped(recordings.polycam(tmp_path / "second", views), tmp_path / "second.zip")


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_recordings_images_are_queries_with_its_intrinsics(
    clip: Path, views: list[View], unpacked: bool
) -> None:
    path = clip.with_suffix("") if unpacked else clip
    queries = find_queries(LocalizeArguments(MAP, queries=path), MapConfig("scene"))
    assert len(queries) == len(views)  # depth and confidence are no queries
    for query, view in zip(queries, views):
        camera = query.load_camera()
        assert camera is not None and camera == view.camera
        assert query.cam_from_world is None  # in coordinates of its own
        np.testing.assert_array_equal(query.load_image(), view.load_image())


def test_given_intrinsics_contradict_a_recording(clip: Path) -> None:
    arguments = LocalizeArguments(MAP, queries=clip, camera=CameraArguments(focal=500.0))
    with pytest.raises(GSplatLocError, match="without --focal and --intrinsics"):
        find_queries(arguments, MapConfig("scene"))


def test_an_archive_of_photos_is_a_folder_of_photos(views: list[View], tmp_path: Path) -> None:
    for number, view in enumerate(views):
        recordings.save(tmp_path / "photos" / f"{number}.png", view.load_image())
    archive = recordings.zipped(tmp_path / "photos", tmp_path / "photos.zip", top="photos")
    queries = find_queries(LocalizeArguments(MAP, queries=archive), MapConfig("scene"))
    assert [query.name for query in queries] == ["0.png", "1.png", "2.png", "3.png"]
    assert queries[0].load_camera() is None


def test_all_images_of_another_scene_without_test_images_are_localized(
    room_path: Path, clip: Path, views: list[View], capsys: pytest.CaptureFixture[str]
) -> None:
    """As of the second part of a recording whose first part was mapped: its poses are the truth."""
    config = MapConfig(str(room_path))
    queries = find_queries(LocalizeArguments(MAP, source_path=clip), config)
    assert len(queries) == len(views)
    for query, view in zip(queries, views):
        assert query.cam_from_world is not None
        torch.testing.assert_close(query.cam_from_world, view.cam_from_world, atol=1e-6, rtol=0)
    assert "no test images: all of its 4 images are localized" in capsys.readouterr().err


@pytest.mark.parametrize("named", [False, True])
def test_the_mapping_images_are_no_test_images(room_path: Path, named: bool) -> None:
    arguments = LocalizeArguments(MAP, source_path=room_path if named else None)
    with pytest.raises(GSplatLocError, match="expected test images in .*--eval"):
        find_queries(arguments, MapConfig(str(room_path), SceneOptions()))
