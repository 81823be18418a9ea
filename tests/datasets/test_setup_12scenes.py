"""setup_12scenes.py against a mirror that serves archives of upstream's structure."""

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.twelve_scenes import release_archives, setup_scene
from gsplatloc.scene import read_scene
from gsplatloc.utils.errors import GSplatLocError
from tests.datasets.commands import run_python

INFO = """m_versionNumber = 4
m_sensorName = StructureSensor
m_colorWidth = 64
m_colorHeight = 48
m_depthWidth = 32
m_depthHeight = 24
m_depthShift = 1000
m_calibrationColorIntrinsic = 60.5 0 32.1 0 0 61.5 24.3 0 0 0 1 0 0 0 0 1
m_calibrationColorExtrinsic = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1
"""
SPLIT = "sequence0 [frames=2]  [start=0 ; end=1]\nsequence1 [frames=3]  [start=2 ; end=4]\n"
LOST_FRAME = 3


def pose_text(frame: int) -> str:
    if frame == LOST_FRAME:
        return "-INF -INF -INF -INF\n" * 4
    return f"1 0 0 {frame}\n0 1 0 0.5\n0 0 1 -2\n0 0 0 1\n"


def room_entries(room: str) -> dict[str, bytes | str]:
    entries: dict[str, bytes | str] = {f"{room}/info.txt": INFO, f"{room}/split.txt": SPLIT}
    for frame in range(5):
        stem = f"{room}/data/frame-{frame:06d}"
        entries[f"{stem}.color.jpg"] = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
        entries[f"{stem}.depth.png"] = cv2.imencode(".png", np.zeros((24, 32), np.uint16))[1].tobytes()
        entries[f"{stem}.pose.txt"] = pose_text(frame)
    return entries


@pytest.fixture
def upstream(mirror):  # type: ignore[no-untyped-def]
    """The mirror with apt1, of two rooms, on it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (room_entries("apt1/kitchen") | room_entries("apt1/living")).items():
            archive.writestr(name, content)
    mirror.put("12scenes/apt1.zip", buffer.getvalue())
    for split, frames in (("test", (0, 1)), ("train", (2, 4))):
        lines = [f"data/frame-{frame:06d}.color.jpg 0 1 0 0 0.1 0.2 {frame} {70 + frame}" for frame in frames]
        mirror.put(f"pgt/sfm/12scenes/apt1_kitchen_{split}.txt", "\n".join(lines).encode())
    return mirror


def options(upstream, tmp_path: Path, keep: bool = True) -> SetupOptions:  # type: ignore[no-untyped-def]
    return SetupOptions(output=tmp_path / "out", yes=True, mirror=upstream.address, keep_archives=keep)


def test_the_first_sequence_is_the_test_set_and_lost_frames_are_dropped(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "apt1_kitchen", "original")
    scene = read_scene(folder)
    assert folder.name == "12scenes_apt1_kitchen"
    assert [view.name for view in scene.test] == ["frame-000000.color.jpg", "frame-000001.color.jpg"]
    assert [view.name for view in scene.train] == ["frame-000002.color.jpg", "frame-000004.color.jpg"]


def test_the_focal_length_is_the_mean_of_both_axes(upstream, tmp_path: Path) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "apt1_kitchen", "original"))
    camera = scene.train[0].camera
    assert (camera.fx, camera.fy, camera.cx) == (61.0, 61.0, 32.0)


def test_original_poses_are_kept(upstream, tmp_path: Path) -> None:
    scene = read_scene(setup_scene(options(upstream, tmp_path), "apt1_kitchen", "original"))
    assert scene.train[1].cam_from_world[:3, 3].tolist() == [-4.0, -0.5, 2.0]


def test_pseudo_ground_truth_brings_poses_and_focal_lengths(upstream, tmp_path: Path) -> None:
    folder = setup_scene(options(upstream, tmp_path), "apt1_kitchen", "pgt")
    view = read_scene(folder).train[1]
    assert folder.name == "pgt_12scenes_apt1_kitchen"
    assert view.camera.fx == 74.0
    # half a turn about x, translation as listed: the file is world to camera
    np.testing.assert_allclose(view.cam_from_world[:3, 3], [0.1, 0.2, 4.0], atol=1e-9)
    np.testing.assert_allclose(view.cam_from_world.diagonal(), [1, -1, -1, 1], atol=1e-9)


def test_only_the_chosen_room_is_written_and_the_archive_fetched_once(upstream, tmp_path: Path) -> None:
    setup_scene(options(upstream, tmp_path), "apt1_kitchen", "original")
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["12scenes_apt1_kitchen"]
    setup_scene(options(upstream, tmp_path), "apt1_living", "original")
    assert [path for path, _ in upstream.requests] == ["/12scenes/apt1.zip"]


def test_archives_go_when_they_are_not_kept(upstream, tmp_path: Path) -> None:
    chosen = options(upstream, tmp_path, keep=False)
    setup_scene(chosen, "apt1_kitchen", "original")
    release_archives(chosen)
    assert not list((tmp_path / "out" / ".downloads").rglob("*.zip"))


def test_a_second_run_asks_for_nothing(upstream, tmp_path: Path) -> None:
    setup_scene(options(upstream, tmp_path), "apt1_kitchen", "pgt")
    upstream.requests.clear()
    setup_scene(options(upstream, tmp_path), "apt1_kitchen", "pgt")
    assert upstream.requests == []


def test_a_room_that_the_archive_lacks_is_named(upstream, tmp_path: Path) -> None:
    upstream.put("12scenes/apt2.zip", (upstream.root / "12scenes" / "apt1.zip").read_bytes())
    with pytest.raises(GSplatLocError, match="luke"):
        setup_scene(options(upstream, tmp_path), "apt2_luke", "original")


def test_the_command_runs(upstream, tmp_path: Path) -> None:
    words = ["--scenes", "apt1_kitchen", "apt1_living", "--yes", "--mirror", upstream.address]
    result = run_python("datasets/setup_12scenes.py", *words, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(read_scene(tmp_path / "12scenes_apt1_living").test) == 2
