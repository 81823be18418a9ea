"""Recordings of phones: poses, intrinsics, and depth in metres, of every app's format."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.scene import recordings

COUNT = 9
PACKAGES = {"record3d": "lzfse", "record3d_export": "OpenEXR"}


@pytest.fixture(scope="module")
def truth(room_scene: Path) -> list[View]:
    return read_scene(room_scene).train[:COUNT]


def folder(path: Path, name: str) -> Path:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="module", params=list(recordings.WRITERS))
def scene(
    request: pytest.FixtureRequest, truth: list[View], tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    root = folder(tmp_path_factory.mktemp(request.param), request.param)
    return read_scene(recordings.WRITERS[request.param](root, truth))


@pytest.fixture
def clip(truth: list[View], tmp_path: Path) -> Path:
    """The content of an .r3d file, to be changed."""
    return recordings.record3d_folder(folder(tmp_path / "clip", "record3d"), truth)


def change(clip: Path, **changes: object) -> Path:
    document = json.loads((clip / "metadata").read_text())
    kept = {key: value for key, value in (document | changes).items() if value is not None}
    (clip / "metadata").write_text(json.dumps(kept))
    return clip


def test_poses_are_those_of_the_camera(scene: Scene, truth: list[View]) -> None:
    assert len(scene.train) == COUNT and "left out" not in scene.report
    for view, true in zip(scene.train, truth):
        torch.testing.assert_close(view.cam_from_world, true.cam_from_world, atol=1e-6, rtol=0)
        center = se3.camera_center(true.cam_from_world)
        torch.testing.assert_close(se3.camera_center(view.cam_from_world), center, atol=1e-6, rtol=0)


def test_intrinsics_are_those_of_the_image(scene: Scene, truth: list[View]) -> None:
    for view, true in zip(scene.train, truth):
        assert (view.camera.width, view.camera.height) == (true.camera.width, true.camera.height)
        torch.testing.assert_close(view.camera.matrix(), true.camera.matrix())
        np.testing.assert_array_equal(view.load_image(), true.load_image())


def test_smaller_images_have_smaller_intrinsics(scene: Scene, truth: list[View]) -> None:
    """At the size of the sensor's depth."""
    small = read_scene(scene.root, SceneOptions(resolution=2)).train[0]
    width, height = small.camera.width, small.camera.height
    torch.testing.assert_close(small.camera.matrix(), truth[0].camera.resized(width, height).matrix())
    assert small.load_depth is not None and small.load_depth().shape == (height, width)


def test_depth_is_in_metres_and_low_confidence_is_no_depth(scene: Scene, truth: list[View]) -> None:
    for view, true in zip(scene.train, truth):
        assert view.load_depth is not None and true.load_depth is not None
        depth, measured = view.load_depth(), true.load_depth()[::2, ::2].repeat(2, 0).repeat(2, 1)
        quarter = depth.shape[1] // 4
        assert not depth[:, :quarter].any()
        np.testing.assert_allclose(depth[:, quarter:], measured[:, quarter:], atol=6e-4)


def test_points_of_depth_agree_between_views(scene: Scene) -> None:
    """Depth, intrinsics and poses fit each other: a pixel of one view has its depth in the next."""
    first, second = scene.train[4:6]
    assert first.load_depth is not None and second.load_depth is not None
    depth, other = first.load_depth(), second.load_depth()
    rows, columns = (index[::7] for index in np.nonzero(depth))
    pixels = torch.from_numpy(np.stack([columns, rows], 1) + 0.5)
    points = first.camera.unproject(pixels, torch.from_numpy(depth[rows, columns]).double())
    moved = second.cam_from_world @ se3.inverse(first.cam_from_world)
    points = points @ moved[:3, :3].T + moved[:3, 3]
    seen = second.camera.project(points).numpy()
    inside = (seen > 0).all(1) & (seen < (second.camera.width, second.camera.height)).all(1)
    column, row = seen[inside].astype(int).T
    measured, expected = other[row, column], points.numpy()[inside, 2]
    errors = np.abs(measured - expected)[measured > 0]
    assert len(errors) > 500 and np.median(errors) < 0.02


def test_every_eighth_is_a_test_view(scene: Scene) -> None:
    split = read_scene(scene.root, SceneOptions(eval=True))
    assert (len(split.train), len(split.test)) == (COUNT - 2, 2)


def test_a_metadata_file_of_an_older_version_has_one_camera(clip: Path, truth: list[View]) -> None:
    views = read_scene(change(clip, perFrameIntrinsicCoeffs=None, dw=None, dh=None, w=None, h=None)).train
    torch.testing.assert_close(views[3].camera.matrix(), truth[3].camera.matrix())


def test_intrinsics_of_a_frame_precede_the_recordings(clip: Path) -> None:
    own = [[100.0 + i, 101.0 + i, 96.0, 80.0] for i in range(COUNT - 1)]
    cameras = [view.camera for view in read_scene(change(clip, perFrameIntrinsicCoeffs=own)).train]
    assert [camera.fx for camera in cameras[:3]] == [100.0, 101.0, 102.0]
    assert cameras[-1].fx == pytest.approx(0.8 * 192)  # there are fewer of them than frames


def test_images_of_another_size_than_the_metadata(clip: Path, truth: list[View]) -> None:
    document = json.loads((clip / "metadata").read_text())
    doubled = [[2 * value for value in row] for row in document["perFrameIntrinsicCoeffs"]]
    change(clip, w=2 * document["w"], h=2 * document["h"], perFrameIntrinsicCoeffs=doubled)
    torch.testing.assert_close(read_scene(clip).train[0].camera.matrix(), truth[0].camera.matrix())


def test_width_and_height_may_be_swapped(clip: Path, truth: list[View]) -> None:
    document = json.loads((clip / "metadata").read_text())
    view = read_scene(change(clip, w=document["h"], h=document["w"])).train[0]
    torch.testing.assert_close(view.camera.matrix(), truth[0].camera.matrix())


def test_frames_without_a_pose_are_left_out_with_a_count(clip: Path) -> None:
    poses = json.loads((clip / "metadata").read_text())["poses"][: COUNT - 1]
    poses[0] = [float("nan")] * 7
    poses[1] = [0.0] * 7
    scene = read_scene(change(clip, poses=poses))
    assert [view.name for view in scene.train] == [f"rgbd/{i}.png" for i in range(2, COUNT - 1)]
    assert "left out 2 (their poses are not finite), 1 (no pose or no intrinsics)" in scene.report


def test_a_missing_frame_does_not_shift_the_others(clip: Path, truth: list[View]) -> None:
    (clip / "rgbd" / "2.png").unlink()
    (clip / "rgbd" / "4.depth").unlink()
    (clip / "rgbd" / "5.conf").unlink()
    views = read_scene(clip).train
    torch.testing.assert_close(views[2].cam_from_world, truth[3].cam_from_world, atol=1e-6, rtol=0)
    assert views[3].load_depth is None
    assert views[4].load_depth is not None and views[4].load_depth()[:, 0].any()


def test_frames_numbered_with_gaps_have_poses_in_their_order(clip: Path, truth: list[View]) -> None:
    for number in reversed(range(COUNT)):
        for file in (clip / "rgbd").glob(f"{number}.*"):
            file.rename(file.with_stem(str(10 + 3 * number)))
    views = read_scene(clip).train
    torch.testing.assert_close(views[5].cam_from_world, truth[5].cam_from_world, atol=1e-6, rtol=0)


def test_suffixes_in_capitals_and_half_floats_are_read(clip: Path, truth: list[View]) -> None:
    for file in list((clip / "rgbd").iterdir()):
        file.rename(file.with_suffix(file.suffix.upper()))
    half = recordings.small_depth(truth[0]).astype(np.float16)
    (clip / "rgbd" / "0.DEPTH").write_bytes(half.tobytes())  # nor compressed
    view = read_scene(clip).train[0]
    assert view.load_depth is not None
    np.testing.assert_allclose(view.load_depth()[::2, 100::2], half[:, 50:], rtol=1e-3)


def test_an_archive_is_unpacked_once_and_anew_when_it_changed(
    clip: Path, truth: list[View], tmp_path: Path
) -> None:
    archive = recordings.zipped(clip, tmp_path / "my clip.ZIP", top="2024-01-01--10-00-00")
    scene = read_scene(archive)
    assert (scene.name, len(scene.train)) == ("my clip", COUNT)
    unpacked = tmp_path / "my clip.ZIP.unpacked"
    made = unpacked.stat().st_ino
    assert len(read_scene(archive).train) == COUNT and unpacked.stat().st_ino == made
    (clip / "rgbd" / "0.png").unlink()
    recordings.zipped(clip, archive)
    assert len(read_scene(archive).train) == COUNT - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "my clip.ZIP", "my clip.ZIP.unpacked"]


def test_an_archive_in_a_folder_that_is_not_writable_is_unpacked_elsewhere(
    clip: Path, tmp_path: Path, monkeypatch
) -> None:  # noqa: ANN001
    archive = recordings.zipped(clip, tmp_path / "clip.r3d")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert read_scene(archive).root.is_relative_to(tmp_path / "cache" / "gsplatloc")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive"])
def test_a_file_that_is_no_archive_is_a_users_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.r3d").write_bytes(content)
    with pytest.raises(GSplatLocError, match=r"whole zip archive in .*clip\.r3d"):
        read_scene(tmp_path / "clip.r3d")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.r3d"]


def test_a_folder_that_is_in_the_way_is_left_alone(clip: Path, tmp_path: Path) -> None:
    archive = recordings.zipped(clip, tmp_path / "clip.r3d")
    (tmp_path / "clip.r3d.unpacked").mkdir()
    with pytest.raises(GSplatLocError, match="move it away"):
        read_scene(archive)


def test_without_the_package_images_and_poses_are_read(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsplatloc.scene.readers.phone_depth.find_spec", lambda name: None)
    scene = read_scene(clip)
    assert len(scene.train) == COUNT and scene.train[0].load_depth is None
    assert "depth is left out, which the package lzfse reads: pip install 'gsplatloc[phones]'" in scene.report


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"bvx2" + bytes(40), "damaged LZFSE"),
        (b"bvx2" + b"\xff" * 40, "bytes in"),
        (b"", "0 bytes for 96x80"),
    ],
)
def test_a_damaged_depth_map_is_named(clip: Path, content: bytes, found: str) -> None:
    (clip / "rgbd" / "0.depth").write_bytes(content)
    view = read_scene(clip).train[0]
    assert view.load_depth is not None
    with pytest.raises(GSplatLocError, match=rf"0\.depth.*{found}"):
        view.load_depth()


def test_a_depth_map_of_no_size_of_the_images_aspect_is_named(clip: Path) -> None:
    (clip / "rgbd" / "0.depth").write_bytes(bytes(4 * 37))
    view = read_scene(change(clip, dw=None, dh=None)).train[0]
    assert view.load_depth is not None
    with pytest.raises(GSplatLocError, match="148 bytes, which fit no size of the image's aspect"):
        view.load_depth()


@pytest.mark.parametrize(
    "changes",
    [
        {"poses": None},
        {"poses": 3},
        {"poses": []},
        {"K": None, "perFrameIntrinsicCoeffs": None},
        {"K": [0] * 9, "perFrameIntrinsicCoeffs": [["x"]]},
    ],
)
def test_metadata_without_poses_or_cameras_is_a_users_error(clip: Path, changes: dict[str, object]) -> None:
    with pytest.raises(GSplatLocError, match="expected"):
        read_scene(change(clip, **changes))


def test_a_long_recording_is_thinned_to_the_sharpest_of_equal_stretches(clip: Path) -> None:
    for number in (2, 5, 6):  # the files of these frames become the largest
        with (clip / "rgbd" / f"{number}.png").open("ab") as file:
            file.write(bytes(100_000))
    scene = read_scene(clip, SceneOptions(frames=3))
    assert [view.name for view in scene.train] == [f"rgbd/{number}.png" for number in (2, 5, 6)]
    assert "found 9 images, used 3 images; left out 6 (more than 3 frames)" in scene.report


def test_polycams_optimized_poses_and_images_precede_the_originals(truth: list[View], tmp_path: Path) -> None:
    recordings.polycam(
        tmp_path, [replace(view, cam_from_world=torch.eye(4, dtype=torch.float64)) for view in truth]
    )
    views = read_scene(recordings.polycam(tmp_path, truth, "corrected_")).train
    torch.testing.assert_close(views[1].cam_from_world, truth[1].cam_from_world)
    assert "corrected_images" in str(views[1].image_path)
    assert views[1].load_mask is not None
    mask = views[1].load_mask()  # undistortion leaves black borders
    assert mask[80, 96] and not mask[0].any() and not mask[:, -1].any()


def test_keyframes_without_a_camera_are_left_out(truth: list[View], tmp_path: Path) -> None:
    recordings.polycam(tmp_path, truth)
    next((tmp_path / "keyframes" / "cameras").iterdir()).unlink()
    assert "left out 1 (no pose or no intrinsics)" in read_scene(tmp_path).report


def test_a_video_gives_the_frames_of_its_odometry(truth: list[View], tmp_path: Path) -> None:
    recordings.stray_scanner(tmp_path, truth, video=True)
    scene = read_scene(tmp_path, SceneOptions(frames=3))
    assert [Path(view.name).stem for view in scene.train] == ["000000", "000004", "000008"]
    for view, true in zip(scene.train, truth[::4]):
        torch.testing.assert_close(view.cam_from_world, true.cam_from_world, atol=1e-6, rtol=0)
        assert np.abs(view.load_image().astype(float) - true.load_image()).mean() < 6
    assert "left out 6 (more than 3 frames)" in scene.report
    assert len(read_scene(tmp_path, SceneOptions(frames=4)).train) == 4  # extracted anew


def test_odometry_without_a_header_is_read(truth: list[View], tmp_path: Path) -> None:
    views = read_scene(recordings.stray_scanner(tmp_path, truth, header=False)).train
    torch.testing.assert_close(views[2].cam_from_world, truth[2].cam_from_world, atol=1e-6, rtol=0)


def test_a_damaged_header_of_odometry_is_quoted_in_part(truth: list[View], tmp_path: Path) -> None:
    path = recordings.stray_scanner(tmp_path, truth) / "odometry.csv"
    header, *lines = path.read_text().split("\n")
    path.write_text("\n".join([f"{'9' * 5000}\x00{header.removeprefix('timestamp')}", "x", *lines]))
    with pytest.raises(GSplatLocError, match="in each line of") as raised:
        read_scene(tmp_path)
    assert len(str(raised.value)) < 500 + len(str(tmp_path)) and str(raised.value).isprintable()


def test_intrinsics_of_the_odometry_precede_the_recordings(truth: list[View], tmp_path: Path) -> None:
    header, *lines = (
        recordings.stray_scanner(tmp_path, truth).joinpath("odometry.csv").read_text().split("\n")
    )
    lines = [f"{line}, {100 + i}, 101, 96, 80" for i, line in enumerate(lines)]
    (tmp_path / "odometry.csv").write_text("\n".join([f"{header}, fx, fy, cx, cy", *lines]))
    assert [view.camera.fx for view in read_scene(tmp_path).train[:2]] == [100.0, 101.0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("odometry.csv", "x, y", "each line of .*odometry"),
        ("camera_matrix.csv", "1, 2", "3x3 matrix in .*camera_matrix"),
        ("rgb.mp4", "no video", "expected a video in .*rgb.mp4"),
    ],
)
def test_a_broken_file_of_stray_scanner_is_named(
    truth: list[View], tmp_path: Path, file: str, content: str, message: str
) -> None:
    recordings.stray_scanner(tmp_path, truth[:2], video=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(GSplatLocError, match=message):
        read_scene(tmp_path)


def test_pictures_of_depth_are_no_depth(truth: list[View], tmp_path: Path) -> None:
    """NeRFCapture's app writes them, with 8 bits."""
    recordings.nerfcapture(tmp_path, truth)
    recordings.save(tmp_path / "images" / "0.depth.png", np.zeros((160, 192, 3), np.uint8))
    scene = read_scene(tmp_path)
    assert scene.train[0].load_depth is None and scene.train[1].load_depth is not None
    assert "depth is left out, for example 0.depth.png, since it does not have 16 bits" in scene.report


@pytest.fixture
def upright(truth: list[View], tmp_path: Path) -> Path:
    """An .r3d clip of a phone held upright: images, depth and cameras are portrait."""
    views = [recordings.portrait(view) for view in truth]
    return recordings.record3d_folder(folder(tmp_path / "upright", "record3d"), views)


@pytest.mark.parametrize(
    "changes",
    [{}, {"dw": None, "dh": None}, {"dw": 96, "dh": 80}],
    ids=["stated", "older versions", "as the sensor is"],
)
def test_a_phone_held_upright(upright: Path, truth: list[View], changes: dict[str, object]) -> None:
    """Its poses are those of the turned camera; depth is turned like the images."""
    view = read_scene(change(upright, **changes)).train[2]
    expected = recordings.portrait(truth[2])
    assert (view.camera.width, view.camera.height) == (160, 192)
    torch.testing.assert_close(view.camera.matrix(), expected.camera.matrix())
    torch.testing.assert_close(view.cam_from_world, expected.cam_from_world, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(view.load_image(), expected.load_image())
    assert view.load_depth is not None
    depth, measured = view.load_depth()[:, 40:], recordings.depth_of(expected)[::2, ::2]
    np.testing.assert_allclose(depth, measured.repeat(2, 0).repeat(2, 1)[:, 40:], atol=6e-4)


def test_depth_of_a_stated_size_that_it_has_not_is_damaged(clip: Path) -> None:
    view = read_scene(change(clip, dw=97, dh=80)).train[0]
    (clip / "rgbd" / "0.depth").write_bytes(np.ones(97 * 80, np.float32).tobytes()[:-4])
    assert view.load_depth is not None
    with pytest.raises(GSplatLocError, match=r"0\.depth.*97x80"):
        view.load_depth()


@pytest.mark.parametrize("name", sorted({*recordings.WRITERS} - {"nerfcapture"}))
def test_a_recording_without_tracking_is_a_users_error(name: str, truth: list[View], tmp_path: Path) -> None:
    """As of a front camera: Record3D then states the same pose for every frame."""
    still = [replace(view, cam_from_world=truth[0].cam_from_world) for view in truth]
    path = recordings.WRITERS[name](folder(tmp_path / "clip", name), still)
    action = "copy the images" if name == "scanner_app" else "gsplatloc map .* -m OUT finds poses"
    with pytest.raises(GSplatLocError, match=f"same pose for all {COUNT} images.*: {action}"):
        read_scene(path)


def test_frames_in_which_tracking_stood_still_are_left_out(clip: Path) -> None:
    poses = json.loads((clip / "metadata").read_text())["poses"]
    poses[1] = poses[2] = poses[0]
    scene = read_scene(change(clip, poses=poses))
    assert [Path(view.name).stem for view in scene.train] == ["0", *map(str, range(3, COUNT))]
    assert "left out 2 (the same pose as the frame before" in scene.report
