"""RGB-D sequences and posed folders: lists from Windows, poses that were lost, depth of other units."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.mapping.depth_check import compared_depths, report_depth
from gsplatloc.mapping.initialization import initial_points
from gsplatloc.mapping.options import InitializationOptions
from gsplatloc.mapping.triangulation import Tracks
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera, Scene, SparsePoints, View
from gsplatloc.scene.readers.tum_rgbd import read_calibration
from gsplatloc.utils.errors import GSplatLocError

BYTE_ORDER_MARK = "\ufeff"


def write_tum(root: Path, mark: str = "", newline: str = "\n", slash: str = "/", units: int = 5000) -> Path:
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for index in range(4):
        for kind, image in (
            ("rgb", np.zeros((48, 64, 3), np.uint8)),
            ("depth", np.full((48, 64), 2 * units, "u2")),
        ):
            (root / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / kind / f"{index}.png"), image)
            lists[kind].append(f"{index}.5 {kind}{slash}{index}.png")
        lists["groundtruth"].append(f"{index}.5 {index} 0 0 0 0 0 1")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_bytes((mark + newline.join(["# list", *lines])).encode())
    (root / "calibration.txt").write_text(mark + "50 50 31.5 23.5")
    return root


@pytest.mark.parametrize("mark", ["", BYTE_ORDER_MARK])
@pytest.mark.parametrize(("newline", "slash"), [("\n", "/"), ("\r\n", "\\")])
def test_tum_lists_of_windows_are_read(tmp_path: Path, mark: str, newline: str, slash: str) -> None:
    scene = read_scene(write_tum(tmp_path, mark, newline, slash))
    assert len(scene.train) == 4
    assert scene.train[0].load_depth is not None
    assert scene.train[0].load_depth()[20, 20] == pytest.approx(2.0)


def test_a_list_that_begins_with_a_mark_and_no_comment_loses_no_line(tmp_path: Path) -> None:
    path = write_tum(tmp_path) / "rgb.txt"
    path.write_text(BYTE_ORDER_MARK + path.read_text().removeprefix("# list\n"))
    assert len(read_scene(tmp_path).train) == 4


def test_missing_images_of_a_list_are_left_out_with_a_count(tmp_path: Path) -> None:
    write_tum(tmp_path)
    (tmp_path / "rgb" / "0.png").unlink()
    scene = read_scene(tmp_path)
    assert len(scene.train) == 3
    assert "left out 1 (listed in rgb.txt but not on disk)" in scene.report


def test_depth_units_can_be_given(tmp_path: Path) -> None:
    view = read_scene(write_tum(tmp_path, units=1000), SceneOptions(depth_units=1000)).train[0]
    assert view.load_depth is not None and view.load_depth()[20, 20] == pytest.approx(2.0)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(GSplatLocError, match="depth units"):
            SceneOptions(depth_units=wrong)


@pytest.mark.parametrize("word", ["-1.#INF", "1.#QNAN", "-1.#IND", "-1.#IND00", "inf", "nan"])
def test_poses_that_windows_wrote_as_lost_are_left_out_with_a_count(tmp_path: Path, word: str) -> None:
    identity = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    for index, pose in enumerate([identity, " ".join([word] * 16), identity]):
        for folder, text in (("poses", pose), ("calibration", "50")):
            path = tmp_path / "train" / folder / f"{index}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "train" / "rgb").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "train" / "rgb" / f"{index}.png"), np.zeros((48, 64, 3), np.uint8))
    scene = read_scene(tmp_path)
    assert len(scene.train) == 2
    assert "left out 1 (their poses are not finite)" in scene.report


CAMERA = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)


def views_with_depth(scale: float) -> list[View]:
    depth = np.full((48, 64), 2 * scale, np.float32)
    image = np.zeros((48, 64, 3), np.uint8)
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    return [View(str(i), CAMERA, pose, Path(), lambda: image, lambda: depth) for i, pose in enumerate(poses)]


def tracks_at(depth: float, count: int) -> Tracks:
    positions = np.random.default_rng(0).uniform(-0.5, 0.5, (count, 3))
    positions[:, 2] = depth
    observed = np.tile(np.arange(count), 3)
    seen_by = np.repeat(np.arange(3), count)
    colors = np.full((count, 3), 9, np.uint8)
    lengths, errors = np.full(count, 3), np.zeros(count)
    return Tracks(positions, colors, torch.zeros(count, 64), lengths, errors, observed, seen_by, observed)


@pytest.mark.parametrize("scale", [0.2, 5.0, 0.001])
def test_depth_of_another_unit_than_the_poses_is_said(
    scale: float, capsys: pytest.CaptureFixture[str]
) -> None:
    views, tracks = views_with_depth(scale), tracks_at(2.0, 50)
    found = compared_depths(views, tracks)
    assert found.measured / found.expected == pytest.approx(scale, rel=1e-4)
    report_depth(views, tracks)
    assert f"have {1000 * scale:.4g} units" in capsys.readouterr().err


def test_depth_of_the_same_unit_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    report_depth(views_with_depth(1.1), tracks_at(2.0, 50))
    report_depth(views_with_depth(5.0), tracks_at(2.0, 3))  # too few to tell
    assert capsys.readouterr().err == ""


def test_depth_that_is_empty_or_inverted_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    report_depth(views_with_depth(0.0), tracks_at(2.0, 50))
    assert "hold no measurement" in capsys.readouterr().err
    tracks = tracks_at(2.0, 300)
    tracks.positions[:] *= np.random.default_rng(0).uniform(0.8, 1.25, (300, 1))  # of 1.6 to 2.5 m
    columns, rows = CAMERA.project(torch.from_numpy(tracks.positions)).long().T.numpy()
    for depth, warned in ((tracks.positions[:, 2], False), (4 / tracks.positions[:, 2], True)):
        image = np.zeros((48, 64), np.float32)
        image[rows, columns] = depth
        report_depth([replace(view, load_depth=lambda: image) for view in views_with_depth(1.0)], tracks)  # noqa: B023
        assert ("agrees in no unit" in capsys.readouterr().err) == warned


WIDE, TELEPHOTO = replace(CAMERA, fx=32.0, fy=32.0), replace(CAMERA, fx=140.0, fy=140.0)


def measured_views(camera: Camera, noise: float, along_rays: bool, bias: float) -> tuple[list[View], Tracks]:
    """Six views from one place of points at 1.5 to 6 m, most of them farther away higher up in the image.

    Their depth has this relative noise, and grows by `bias` from the centre to a corner of the image.
    """
    rng, count = np.random.default_rng(1), 400
    pixels = torch.from_numpy(rng.permutation(camera.width * camera.height)[:count])
    pixels = torch.stack([pixels % camera.width, pixels // camera.width], 1) + 0.5
    depth = torch.from_numpy(rng.uniform(1.5, 3, count)) * (2 - pixels[:, 1] / camera.height)
    points = camera.unproject(pixels, depth)
    off_axis = (pixels - torch.tensor([camera.cx, camera.cy])).norm(dim=1) / np.hypot(camera.cx, camera.cy)
    distance = points.norm(dim=1) if along_rays else depth
    columns, rows = pixels.long().T.numpy()
    views = []
    for view in 2 * views_with_depth(1.0):
        image = np.zeros((camera.height, camera.width), np.float32)
        image[rows, columns] = distance * (1 + bias * off_axis**2) * np.exp(rng.normal(0, noise, count))
        views.append(replace(view, camera=camera, load_depth=lambda image=image: image))
    seen = np.tile(np.arange(count), 6)
    tracks = replace(
        tracks_at(1.0, count),
        positions=points.numpy(),
        observed_track=seen,
        observed_view=np.repeat(range(6), count),
    )
    return views, tracks


@pytest.mark.parametrize(
    ("camera", "noise"),
    [(WIDE, 0.05), (CAMERA, 0.03), (TELEPHOTO, 0.005)],
    ids=["wide", "usual", "telephoto"],
)
@pytest.mark.parametrize("along_rays", [False, True])
def test_distances_along_rays_are_said_to_be_no_depth(
    camera: Camera, noise: float, along_rays: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report_depth(*measured_views(camera, noise, along_rays, bias=0.0))
    assert ("--depth_along_rays" in capsys.readouterr().err) == along_rays


@pytest.mark.parametrize("bias", [-0.05, 0.05])
def test_a_sensor_that_errs_at_the_border_does_not_measure_along_rays(
    bias: float, capsys: pytest.CaptureFixture[str]
) -> None:
    report_depth(*measured_views(CAMERA, 0.02, along_rays=False, bias=bias))
    assert capsys.readouterr().err == ""


def test_depth_that_is_hardly_off_the_axis_shows_no_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """A telephoto lens and a noisy sensor: the kinds differ by 2 % at the border."""
    report_depth(*measured_views(TELEPHOTO, 0.1, along_rays=True, bias=0.0))
    assert capsys.readouterr().err == ""


def test_depth_along_rays_can_be_given(tmp_path: Path) -> None:
    """A plane at right angles to the axis, also for a camera with distortion, at another resolution."""
    for name, calibration, resolution in (
        ("pinhole", "50 50 31.5 23.5", 1),
        ("bent", "50 50 30 22 -0.2 0 0 0", 48),
    ):
        root = write_tum(tmp_path / name)
        (root / "calibration.txt").write_text(calibration)
        camera_model = read_calibration(root, root / "rgb" / "0.png")
        pixels = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5), -1).reshape(-1, 2)
        rays = camera_model.colmap().cam_from_img(pixels)
        lengths = np.hypot(np.linalg.norm(rays, axis=1), 1).reshape(48, 64)
        for file in (root / "depth").iterdir():
            cv2.imwrite(str(file), np.rint(10_000 * lengths).astype("u2"))
        view = read_scene(root, SceneOptions(depth_along_rays=True, resolution=resolution)).train[0]
        assert view.load_depth is not None
        assert view.load_depth() == pytest.approx(2.0, abs=0.01 if name == "pinhole" else 0.03)


@pytest.mark.parametrize(("points", "tracks", "expected"), [(3, 50, 50), (50, 3, 50), (0, 50, 50), (5, 0, 5)])
def test_initial_points_are_taken_from_where_there_are_more(points: int, tracks: int, expected: int) -> None:
    views = [
        View(view.name, CAMERA, view.cam_from_world, Path(), view.load_image) for view in views_with_depth(1)
    ]
    cloud = SparsePoints(np.random.default_rng(1).normal(size=(points, 3)), np.zeros((points, 3), np.uint8))
    scene = Scene("scene", Path(), views, [], cloud if points else None)
    generator = torch.Generator().manual_seed(0)
    found = initial_points(scene, views, InitializationOptions(), lambda: tracks_at(2.0, tracks), generator)
    assert len(found) == expected
    if points:
        only = initial_points(
            scene, views, InitializationOptions(init="points"), lambda: sys.exit(), generator
        )
        assert len(only) == points


HUGE = "9" * 400


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "9" * 5000, "[]", "5", '{"camera": 5}', '{"camera": {}}',
     *(f'{{"camera": {{"w": {w}, "h": 48, "fx": {fx}, "fy": 50, "cx": 32, "cy": 24, "scale": {scale}}}}}'
       for w, fx, scale in ((HUGE, 50, 1), (0, 50, 1), (64, HUGE, 1), (64, "NaN", 1), (64, 50, 0),
                            (64, 50, "[]"), (1e300, 50, 1), ('"x"', 50, 1), (64, 50, "1e999"),
                            ("9" * 30, 50, 1)))],
    ids=range(16),
)  # fmt: skip
def test_broken_parameters_of_replica_are_one_short_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "results").mkdir()
    cv2.imwrite(str(tmp_path / "results" / "frame000000.jpg"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "traj.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n")
    (tmp_path / "cam_params.json").write_text(content)
    with pytest.raises(GSplatLocError) as error:
        read_scene(tmp_path)
    assert len(str(error.value)) < 500 + 2 * len(str(tmp_path))


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "nowhere"])
def test_names_that_cannot_be_files_are_one_line(tmp_path: Path, name: str) -> None:
    write_tum(tmp_path / "tum")
    (tmp_path / "tum" / "rgb.txt").write_text(f"0.5 rgb/{name}.png\n")
    for folder, options in ((tmp_path / name, None), (tmp_path / "tum", SceneOptions(images=name))):
        with pytest.raises(GSplatLocError):
            read_scene(folder, options)


@pytest.mark.parametrize("unit", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("name", ["rgb.txt", "depth.txt", "groundtruth.txt"])
def test_times_in_other_units_are_of_the_same_moments(tmp_path: Path, unit: float, name: str) -> None:
    """ROS and EuRoC write nanoseconds."""
    write_tum(tmp_path)
    for file in (tmp_path / each for each in ("rgb.txt", "depth.txt", "groundtruth.txt")):
        factor, lines = unit if file.name == name else 1.0, []
        for line in (line for line in file.read_text().splitlines() if "#" not in line):
            stamp, _, rest = line.partition(" ")
            lines.append(f"{factor * (float(stamp) + 1.3e9):.6f} {rest}")
        file.write_text("\n".join(lines))
    assert len(read_scene(tmp_path).train) == 4


def test_a_line_of_column_names_is_skipped(tmp_path: Path) -> None:
    write_tum(tmp_path)
    for name, head in (("rgb.txt", "timestamp,filename\n"), ("groundtruth.txt", "timestamp,tx,ty,tz,q\n")):
        lines = [line for line in (tmp_path / name).read_text().splitlines() if "#" not in line]
        (tmp_path / name).write_text(head + "\n".join(lines))
    assert len(read_scene(tmp_path).train) == 4


def test_other_times_are_said_with_their_range(tmp_path: Path) -> None:
    write_tum(tmp_path)
    (tmp_path / "groundtruth.txt").write_text("5000 0 0 0 0 0 0 1\n6000 0 0 0 0 0 0 1\n")
    with pytest.raises(GSplatLocError, match="found 5000.000000 to 6000.000000: copy the file"):
        read_scene(tmp_path)


def test_matrices_of_kitti_are_no_trajectory(tmp_path: Path) -> None:
    write_tum(tmp_path)
    (tmp_path / "groundtruth.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(GSplatLocError, match="found 12 columns, as of KITTI's matrices"):
        read_scene(tmp_path)
