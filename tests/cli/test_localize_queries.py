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
from gsplatloc.scene.readers import unpacked_scene
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
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


@pytest.mark.parametrize("poses", ["none", "one", "not finite"])
def test_images_of_a_recording_need_no_poses(views: list[View], tmp_path: Path, poses: str) -> None:
    """Nor are they fewer where tracking stood still, as of a front camera, or was lost."""
    own = recordings.metadata(views)["poses"]
    changed = {"none": [], "one": own[:1] * 4, "not finite": [[float("nan")] * 7] * 4}[poses]
    clip = recordings.record3d_folder(tmp_path / "clip", views, poses=changed)
    with pytest.raises(GSplatLocError):
        read_scene(clip)
    queries = find_queries(LocalizeArguments(MAP, queries=clip), MapConfig("scene"))
    assert [query.load_camera() for query in queries] == [view.camera for view in views]
    assert len(read_scene(clip, SceneOptions(frames=2, require_poses=False)).train) == len(views)


def test_images_of_nerfcapture_are_queries_and_its_depth_is_not(views: list[View], tmp_path: Path) -> None:
    clip = recordings.nerfcapture(tmp_path, views)
    document = read_json(clip / "transforms.json")
    document["frames"][0]["transform_matrix"] = None
    document["test_frames"] = document["frames"][2:]
    document["frames"] = document["frames"][:2]
    write_json(clip / "transforms.json", document)
    queries = find_queries(LocalizeArguments(MAP, queries=clip), MapConfig("scene"))
    assert [query.load_camera() for query in queries] == [view.camera for view in views]
    assert all(query.cam_from_world is None for query in queries)


def test_photos_of_a_transforms_file_are_a_folder_of_photos(views: list[View], tmp_path: Path) -> None:
    """Those without a pose, which it does not list, too."""
    recordings.save(tmp_path / "images" / "0.png", views[0].load_image())
    recordings.save(tmp_path / "images" / "1.png", views[1].load_image())
    frame = {"file_path": "images/0.png", "transform_matrix": np.eye(4).tolist(), "fl_x": 50.0}
    write_json(tmp_path / "transforms.json", {"frames": [frame]})
    assert len(find_queries(LocalizeArguments(MAP, queries=tmp_path), MapConfig("scene"))) == 2


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


@pytest.mark.parametrize("mapped", ["archive", "folder"])
@pytest.mark.parametrize("named", ["archive", "folder"])
def test_the_mapping_images_of_an_archive_are_no_test_images(clip: Path, mapped: str, named: str) -> None:
    paths = {"archive": clip, "folder": unpacked_scene(clip)}
    with pytest.raises(GSplatLocError, match="expected test images in .*--eval"):
        find_queries(LocalizeArguments(MAP, source_path=paths[named]), MapConfig(str(paths[mapped])))
