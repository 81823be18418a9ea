"""A map made of a splat alone: its landmarks, its files, and queries in it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.arguments.export import parse_export_arguments
from gsplatloc.cli import export
from gsplatloc.cli.from_splat import posed_in
from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import to_image
from gsplatloc.localization.initial.gsvisloc import GSVisLocPose
from gsplatloc.localization.initial.members import GSVisLocOptions
from gsplatloc.localization.initial.view_index import ViewIndexOptions, index_key, load_index
from gsplatloc.localization.landmarks.file import load_landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.mapping.from_splat import map_splat, moved
from gsplatloc.mapping.options import FromSplatOptions
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.export import find_ply, load_gaussians
from gsplatloc.scene.formats import read_splat, write_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import (
    MapConfig,
    frame_of_splat,
    read_cameras,
    read_config,
    write_cameras,
    write_config,
)
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.scene.poses_without_images import read_posed_cameras
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(240, 180, 170.0, 170.0, 120.0, 90.0)


def make_room(per_side: int = 90, side: float = 4.0) -> Gaussians:
    """A closed box, 4 x 3 x 4, y down, whose walls carry patches of random colours."""
    generator = torch.Generator().manual_seed(1)
    steps = (torch.arange(per_side) + 0.5) / per_side - 0.5
    u, v = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    half = torch.tensor([side, 0.75 * side, side])
    means, quaternions = [], []
    for axis in range(3):
        for sign in (-0.5, 0.5):
            points = torch.stack([u, v], 1)
            wall = torch.full((len(u), 3), sign)
            wall[:, [other for other in range(3) if other != axis]] = points
            means.append(wall * half)
            turn = [[0.5**0.5, 0, 0.5**0.5, 0], [0.5**0.5, 0.5**0.5, 0, 0], [1.0, 0, 0, 0]][axis]
            quaternions.append(torch.tensor(turn).expand(len(u), 4))
    count = 6 * len(u)
    size = side / per_side
    patch = torch.rand(6, 30, 30, 3, generator=generator).repeat_interleave(3, 1).repeat_interleave(3, 2)
    sh = (patch[:, :per_side, :per_side].reshape(count, 3) - 0.5) / 0.28209479
    scales = torch.tensor([0.6 * size, 0.6 * size, 0.05 * size]).log().expand(count, 3)
    return Gaussians(
        torch.cat(means), torch.cat(quaternions).contiguous(), scales.contiguous(),
        torch.full((count,), 5.0), sh[:, None].contiguous(), torch.zeros(count, 0),
    )  # fmt: skip


def look(x: float, z: float, yaw: float) -> torch.Tensor:
    rotation = se3.so3_exp(torch.tensor([0.0, yaw, 0.0], dtype=torch.float64))
    return se3.from_rotation_translation(rotation, -rotation @ torch.tensor([x, 0.1, z], dtype=torch.float64))


def ring() -> list[PosedCamera]:
    poses = [look(0.5 * math.sin(k / 2), 0.5 * math.cos(k / 2), 0.175 * k) for k in range(36)]
    return [PosedCamera(CAMERA, pose, f"{k}.png") for k, pose in enumerate(poses)]


@pytest.fixture(scope="module")
def room() -> Gaussians:
    return make_room()


@pytest.fixture(scope="module")
def room_map(room: Gaussians, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The map of the room from given cameras."""
    folder = tmp_path_factory.mktemp("map")
    options = FromSplatOptions(views=36, quiet=True)
    assert map_splat(room, folder, Path("room.spz"), ring(), options) > 100
    return folder


def test_queries_are_localized_in_a_small_map(room: Gaussians, room_map: Path, tmp_path: Path) -> None:
    words = ["-m", str(room_map), "--map", str(tmp_path / "small")]
    arguments = parse_export_arguments(words)
    export.main(arguments)
    truth, small = look(0.1, -0.2, 0.5), tmp_path / "small"
    image = to_image(render(room, CAMERA, truth, RenderOptions()).rgb)
    found = Localizer.load(small).localize(image, CAMERA)
    assert found.status is Status.OK
    offset = se3.camera_center(found.final.cam_from_world.double()) - se3.camera_center(truth)
    assert offset.norm() < 0.02
    assert find_ply(small).stat().st_size < 0.4 * find_ply(room_map).stat().st_size
    with pytest.raises(GSplatLocError, match="a folder without a map"):
        export.main(arguments)
    with pytest.raises(GSplatLocError, match="--map alone"):
        export.main(parse_export_arguments([*words, "--format", "spz"]))


def test_stated_errors_are_small_where_parts_of_the_renderings_are_empty(
    room: Gaussians, tmp_path: Path
) -> None:
    """Keypoints there are left out, which once shifted the numbers of the others: 40 degrees were stated."""
    holes = (room.means * 2.5).floor().sum(1).long() % 4 == 0
    map_splat(room.select(~holes), tmp_path, Path("room.spz"), ring(), FromSplatOptions(views=36, quiet=True))
    positions, rotations, rays = load_landmarks(tmp_path / "landmarks.safetensors").pose_noise
    assert positions < 0.01 and math.degrees(rotations) < 0.2 and math.degrees(rays) < 0.2


def test_colours_of_a_splat_file_are_those_that_mapping_cameras_see(room_map: Path, tmp_path: Path) -> None:
    """A splat without a map has no cameras: its colours are clamped one by one."""
    bright = load_gaussians(find_ply(room_map))
    sh = bright.sh.clone()
    sh[::2] += 1.0  # above 1 among darker ones, which can take up what is lost
    bright = replace(bright, sh=sh)
    views, errors = ring()[::6], []
    shutil.copytree(room_map, tmp_path / "map")
    write_splat(find_ply(tmp_path / "map"), bright, "ply")
    for source in (tmp_path / "map", find_ply(tmp_path / "map")):
        path = tmp_path / "map.splat"
        export.main(parse_export_arguments(["-m", str(source), "--output", str(path)]))
        shown = read_splat(path)
        differences = [
            render(shown, CAMERA, view.cam_from_world, RenderOptions()).rgb
            - render(bright, CAMERA, view.cam_from_world, RenderOptions()).rgb
            for view in views
        ]
        errors.append(torch.stack(differences).square().mean().item())
    assert 0 < errors[0] < 0.8 * errors[1]


def test_queries_are_localized_in_the_map_of_a_splat(room: Gaussians, room_map: Path) -> None:
    localizer = Localizer.load(room_map)
    for x, z, yaw in ((0.1, -0.2, 0.5), (-0.2, 0.1, 2.2)):
        truth = look(x, z, yaw)
        image = to_image(render(room, CAMERA, truth, RenderOptions()).rgb)
        found = localizer.localize(image, CAMERA)
        assert found.status is Status.OK
        offset = se3.camera_center(found.final.cam_from_world.double()) - se3.camera_center(truth)
        assert offset.norm() < 0.02


@pytest.mark.parametrize("fallback", [True, False])
def test_after_the_learned_matcher_the_rendered_landmarks_are_tried(
    room: Gaussians, room_map: Path, monkeypatch: pytest.MonkeyPatch, fallback: bool
) -> None:
    def nothing(_: GSVisLocPose, query: Query) -> list[PoseEstimate]:
        return [PoseEstimate(Status.NO_CONSENSUS, query.camera)]

    monkeypatch.setattr(GSVisLocPose, "hypotheses", nothing)
    settings = GSVisLocOptions(tried=60, kept=30, views=8)
    options = LocalizerOptions("gsvisloc", settings=(settings,), fallback=fallback)
    truth = look(0.1, -0.2, 0.5)
    image = to_image(render(room, CAMERA, truth, RenderOptions()).rgb)
    found = Localizer.load(room_map, options).localize(image, CAMERA)
    assert not found.stages["initial"].ok
    if not fallback:
        assert found.status is Status.NO_CONSENSUS
        return
    assert found.status is Status.OK and "fallback" in found.stages
    offset = se3.camera_center(found.final.cam_from_world.double()) - se3.camera_center(truth)
    assert offset.norm() < 0.02


def test_landmarks_lie_on_the_walls(room_map: Path) -> None:
    localizer = Localizer.load(room_map)
    positions = localizer.initial.landmarks.positions.abs() / torch.tensor([2.0, 1.5, 2.0])  # type: ignore[attr-defined]
    assert ((positions.amax(1) - 1).abs() < 0.03).double().mean() > 0.95


def test_the_map_has_the_files_of_any_other(room_map: Path) -> None:
    assert read_config(room_map).preset == "splat"
    assert len(read_cameras(room_map)) >= 18
    for name in ("point_cloud.ply", "features.safetensors"):
        assert (room_map / "point_cloud" / "iteration_0" / name).is_file()
    # The fallback finds its index ready: it was made of the map as it is read.
    index = load_index(room_map / "views.safetensors")
    version, gaussians = read_config(room_map).extractor, read_splat(find_ply(room_map))
    key = index_key(gaussians, read_cameras(room_map), version, ViewIndexOptions())
    assert index is not None and index.key == key


def test_a_splat_far_from_the_origin_is_mapped_like_one_near_it(
    room: Gaussians, room_map: Path, tmp_path: Path
) -> None:
    """The cameras of the room stand within 1 m: 1 km away, single precision is too coarse for them."""
    far = MapFrame((-1000.0, 0.0, 2000.0))
    splat, cameras = moved(room, ring(), far)  # to 1000, 0, -2000
    map_splat(splat, tmp_path / "far", Path("room.spz"), cameras, FromSplatOptions(views=36, quiet=True))
    assert not read_config(tmp_path / "far").frame.is_world
    truth = look(0.1, -0.2, 0.5)
    image = to_image(render(room, CAMERA, truth, RenderOptions()).rgb)
    for folder, frame in ((room_map, MapFrame()), (tmp_path / "far", far)):
        localizer = Localizer.load(folder, LocalizerOptions(stages=()))
        found = frame.pose_in_world(localizer.localize(image, CAMERA).final.cam_from_world.double())
        assert (se3.camera_center(found) - se3.camera_center(truth)).norm() < 0.03


def test_a_splat_in_utm_keeps_its_shape(room: Gaussians, room_map: Path, tmp_path: Path) -> None:
    world = MapFrame((-448262.0, -5411932.0, -312.0))
    _, cameras = moved(room, ring(), world)
    far = torch.tensor(world.origin, dtype=torch.float64)
    splat = replace(room, means=room.means.double() - far)
    map_splat(splat, tmp_path / "far", Path("room.ply"), cameras, FromSplatOptions(views=36, quiet=True))
    counts = [
        len(load_landmarks(folder / "landmarks.safetensors")) for folder in (tmp_path / "far", room_map)
    ]
    assert abs(counts[0] - counts[1]) < 0.05 * counts[1]
    frame = read_config(tmp_path / "far").frame
    there = frame.points_in_world(load_gaussians(tmp_path / "far").means.double().numpy())
    assert np.abs(there - splat.means.numpy()).max() < 1e-5


def test_cameras_are_moved_into_the_coordinates_of_the_map_that_the_splat_is_of(tmp_path: Path) -> None:
    frame = MapFrame((500.0, 20.0, -3.0), 10.0)
    source = tmp_path / "map"
    ply = source / "point_cloud" / "iteration_7" / "point_cloud.ply"
    write_cameras_of(source)
    write_cameras_of(tmp_path / "world")
    write_config(source, MapConfig("somewhere", frame=frame))
    assert frame_of_splat(ply) == frame and frame_of_splat(tmp_path / "a.spz") is None
    for cameras in (source, source / "cameras.json"):  # of a map: in its coordinates
        for given in (frame, None):  # None: exported from the map
            views, found = posed_in(cameras, given)
            assert found == frame and torch.allclose(views[2].cam_from_world, ring()[2].cam_from_world)
    views, found = posed_in(tmp_path / "world", frame)
    expected = frame.pose_in_map(ring()[2].cam_from_world)
    assert found == frame and torch.allclose(views[2].cam_from_world, expected)
    assert posed_in(tmp_path / "world", None)[1] is None


def test_a_folder_with_a_map_is_refused(room: Gaussians, room_map: Path) -> None:
    with pytest.raises(GSplatLocError, match="without a map, found one in"):
        map_splat(room, room_map, Path("room.spz"), ring(), FromSplatOptions(quiet=True))


def test_the_given_cameras_leave_no_more_renderings_than_asked_for(room: Gaussians, tmp_path: Path) -> None:
    options = FromSplatOptions(views=20, quiet=True)
    map_splat(room, tmp_path, Path("room.spz"), ring(), options)
    assert len(read_cameras(tmp_path)) <= 20


def test_a_splat_that_shows_nothing_is_a_users_error(tmp_path: Path) -> None:
    few = make_room(5)
    with pytest.raises(GSplatLocError, match="--cameras"):
        map_splat(few, tmp_path, Path("few.ply"), ring()[:4], FromSplatOptions(views=4, quiet=True))


def test_a_handful_of_gaussians_is_no_place(room: Gaussians, tmp_path: Path) -> None:
    """As in the tiny files that tools are tested with: said at once, not after rendering."""
    with pytest.raises(GSplatLocError, match="of a place in few.spz, found 64 Gaussians"):
        map_splat(room.select(torch.arange(64)), tmp_path, Path("few.spz"), None, FromSplatOptions())


def test_poses_are_read_without_their_images(tmp_path: Path) -> None:
    write_cameras_of(tmp_path / "cameras")
    frames = []
    for view in ring():
        matrix = se3.inverse(view.cam_from_world).numpy() @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": view.name, "transform_matrix": matrix.tolist()})
    document = {"w": 240, "h": 180, "fl_x": 170.0, "cx": 120.0, "cy": 90.0, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    for path in (tmp_path / "cameras", tmp_path / "cameras" / "cameras.json", tmp_path / "transforms.json"):
        found = read_posed_cameras(path)
        assert len(found) == 36 and found[2].camera == CAMERA
        assert torch.allclose(found[2].cam_from_world, ring()[2].cam_from_world, atol=1e-9)


def write_cameras_of(folder: Path) -> None:
    from gsplatloc.scene.cameras import View

    views = [
        View(
            view.name,
            view.camera,
            view.cam_from_world,
            Path(view.name),
            lambda: np.zeros((1, 1, 3), np.uint8),
        )
        for view in ring()
    ]
    write_cameras(folder, views)


def test_cameras_of_a_colmap_model_are_undistorted_and_a_cut_model_is_refused(tmp_path: Path) -> None:
    pose = ring()[2].cam_from_world
    w, x, y, z = se3.quaternion_from_rotation(pose[:3, :3]).tolist()
    t = " ".join(str(value) for value in pose[:3, 3].tolist())
    sparse = tmp_path / "sparse" / "0"
    sparse.mkdir(parents=True)
    (sparse / "cameras.txt").write_text("1 SIMPLE_RADIAL 240 180 170 120 90 0.1\n")
    (sparse / "images.txt").write_text(f"1 {w} {x} {y} {z} {t} 1 a.png\n\n")
    (sparse / "points3D.txt").write_text("")
    (found,) = read_posed_cameras(tmp_path)
    assert torch.allclose(found.cam_from_world, pose, atol=1e-9) and found.camera.width < 240
    for name in ("cameras", "images", "points3D"):
        (sparse / f"{name}.bin").write_bytes(b"\x05")
    with pytest.raises(GSplatLocError, match=r"cameras\.bin|images\.bin"):
        read_posed_cameras(tmp_path)


@pytest.mark.parametrize("text", ["{}", "[1]", '{"frames": [{}]}', "nonsense"])
def test_other_camera_files_are_a_users_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "poses.json").write_text(text)
    with pytest.raises(GSplatLocError, match=r"poses\.json"):
        read_posed_cameras(tmp_path / "poses.json")
