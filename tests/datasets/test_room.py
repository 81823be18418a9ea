"""The synthetic room: its pictures, depths and poses must agree exactly, or nothing measured on it counts."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room, room_camera
from gsplatloc.datasets.room_camera import Room, look_at, query_path, training_path
from gsplatloc.datasets.room_surfaces import Array, Cylinder, Material, Occluder, Quad, Sphere
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

_WHITE = Material(np.ones((4, 4, 3), np.float32))


@pytest.fixture(scope="module")
def room() -> Room:
    return Room.build(seed=0)


def _only(*surfaces) -> Room:
    return Room(list(surfaces), [surface.material.albedo for surface in surfaces])


def _points(camera: Camera, depth: Array, cam_from_world: np.ndarray) -> np.ndarray:
    """World points [H, W, 3] of a depth map."""
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], -1)
    return (rays * depth[..., None] - cam_from_world[:3, 3]) @ cam_from_world[:3, :3]


def test_depth_of_one_view_reprojected_gives_the_colours_of_another(room: Room) -> None:
    camera = room_camera(RoomOptions())
    pose_a, pose_b = training_path(80)[10:12]
    view_a, view_b = room.render(camera, pose_a), room.render(camera, pose_b)
    points = _points(camera, view_a.depth, pose_a) @ pose_b[:3, :3].T + pose_b[:3, 3]
    x = points[..., 0] / points[..., 2] * camera.fx + camera.cx
    y = points[..., 1] / points[..., 2] * camera.fy + camera.cy
    maps = (x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32)  # cv2 counts from pixel centres
    warped = cv2.remap(view_b.rgb, *maps, cv2.INTER_LINEAR).astype(float)
    depth_there = cv2.remap(view_b.depth, *maps, cv2.INTER_NEAREST)
    seen = (np.abs(depth_there - points[..., 2]) < 0.01) & (x > 1) & (y > 1) & (x < 319) & (y < 255)
    assert seen.mean() > 0.6
    assert np.abs(warped - view_a.rgb)[seen].mean() < 6


def test_edge_of_a_known_quad_lies_where_its_corners_project() -> None:
    camera = Camera(64, 48, 50.0, 55.0, 33.3, 22.1)
    quad = Quad(np.float32([-0.3, 0.2, 2]), np.float32([0.7, 0, 0]), np.float32([0, 0.5, 0]), _WHITE)
    seen = _only(quad).render(camera, np.eye(4), supersampling=8).rgb[..., 0]
    share = (seen / 255.0) ** 2.2  # of each pixel that is covered, since the radiance is linear
    share = np.where(seen >= seen.max(), 1.0, share / (seen.max() / 255) ** 2.2)
    left, right = (np.array([-0.3, 0.4]) / 2 * 50) + 33.3
    assert share[30].sum() == pytest.approx(right - left, abs=0.15)
    centroid = (share[30] * (np.arange(64) + 0.5)).sum() / share[30].sum()
    assert centroid == pytest.approx((left + right) / 2, abs=0.1)


def test_depth_is_z_at_the_pixel_centre() -> None:
    camera = Camera(8, 6, 10.0, 10.0, 4.2, 2.9)
    # The plane z = x + 10.
    wall = Quad(np.float32([-9, -9, 1]), np.float32([18, 0, 18]), np.float32([0, 18, 0]), _WHITE)
    depth = _only(wall).render(camera, np.eye(4)).depth
    slope = (np.arange(8) + 0.5 - 4.2) / 10
    np.testing.assert_allclose(depth[3], 10 / (1 - slope), rtol=1e-5)


@pytest.mark.parametrize(
    "surface",
    [
        Quad(np.float32([-0.4, 0.2, 2]), np.float32([0.7, 0.1, 0]), np.float32([-0.05, 0.35, 0.1]), _WHITE),
        Sphere(np.float32([0.1, 0.2, 3]), 0.6, _WHITE),
        Cylinder(np.float32([0.1, 3, -0.4]), 0.3, 0.9, _WHITE),
    ],
    ids=lambda surface: type(surface).__name__,
)
def test_sampling_a_surface_at_the_hit_parameters_gives_the_hit_point(surface) -> None:
    rng = np.random.default_rng(0)
    aim = surface.bounds().mean(0)[:, None] + rng.normal(0, 0.15, (3, 200))
    directions = aim.astype(np.float32)
    hit = surface.intersect(np.zeros(3, np.float32), directions)
    found = np.isfinite(hit.t)
    assert found.sum() > 50
    positions, normals = surface.sample(hit.u[found], hit.v[found])
    np.testing.assert_allclose(positions, (hit.t * directions).T[found], atol=2e-4)
    assert ((normals * directions.T[found]).sum(1) < 0).all()


def test_turned_box_blocks_only_segments_that_cross_it() -> None:
    box = Occluder(np.float32([0, 0, 0]), np.float32([1, 0.1, 1]), yaw=np.pi / 2)
    starts = np.float32([[-1, -1, 0.5], [0.8, 0.8, 0], [0, 0, 0]])
    directions = np.float32([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    reach = np.float32([2, 0.5, 2])
    assert box.blocks(starts, directions, reach).tolist() == [True, False, False]


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    options = RoomOptions(width=48, height=32, train=2, test=1)
    digests = []
    for run in ("a", "b"):
        make_room(tmp_path / run, options)
        files = sorted(path for path in (tmp_path / run).rglob("*") if path.is_file())
        names = [path.relative_to(tmp_path / run) for path in files]
        digests.append(list(zip(names, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files])))
    assert len(digests[0]) == 3 * 4
    assert digests[0] == digests[1]


def test_written_view_matches_the_truth(room: Room, tmp_path: Path) -> None:
    options = RoomOptions(width=48, height=32, train=2, test=0, noise=0)
    make_room(tmp_path, options)
    train = tmp_path / "train"
    pose = training_path(2)[1]
    view = room.render(room_camera(options), pose)
    np.testing.assert_array_equal(cv2.imread(str(train / "rgb/frame-000001.color.png"))[..., ::-1], view.rgb)
    depth = cv2.imread(str(train / "depth/frame-000001.depth.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(depth / 1000, view.depth, atol=6e-4)
    world_from_cam = np.loadtxt(train / "poses/frame-000001.pose.txt")
    np.testing.assert_allclose(world_from_cam @ pose, np.eye(4), atol=1e-7)
    assert np.loadtxt(train / "calibration/frame-000001.calibration.txt").shape == (3, 3)


def test_every_pixel_of_every_view_sees_the_room(room: Room) -> None:
    camera = room_camera(RoomOptions(width=48, height=32))
    for pose in training_path(12):
        depth = room.render(camera, pose, supersampling=1).depth
        assert depth.min() > 0.1 and depth.max() < 6


def test_test_views_stand_off_the_training_path() -> None:
    def centers(poses):
        return np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])

    train, test = centers(training_path(80)), centers(query_path(20, np.random.default_rng(1)))
    nearest = np.linalg.norm(test[:, None] - train[None], axis=2).min(1)
    assert nearest.min() > 0.02 and nearest.max() < 0.15


def test_look_at_puts_the_target_on_the_optical_axis() -> None:
    target = np.array([2.0, 1.0, 0.5])
    pose = look_at(np.array([0.5, 3.0, 1.4]), target)
    in_cam = pose[:3, :3] @ target + pose[:3, 3]
    np.testing.assert_allclose(in_cam[:2], 0, atol=1e-12)
    assert in_cam[2] > 0 and np.linalg.det(pose[:3, :3]) == pytest.approx(1)


def test_options_without_a_picture_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected positive"):
        make_room(tmp_path, RoomOptions(width=0))
