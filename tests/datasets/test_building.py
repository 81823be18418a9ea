"""The synthetic building: rooms that look alike, openings that show what is behind them, exact truth."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gsplatloc.datasets.building import build, make_building, walk, write_images
from gsplatloc.datasets.building_zones import CORRIDOR_WIDTH, SEGMENT_LENGTH, Building
from gsplatloc.datasets.options import BuildingOptions
from gsplatloc.datasets.room_camera import look_at
from gsplatloc.datasets.room_furniture import ROOM_SIZE
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

SMALL = BuildingOptions(
    rooms=3,
    room_views=4,
    corridor_views=3,
    room_tests=1,
    corridor_tests=1,
    furnishings=1,
    width=64,
    height=32,
)
# Of the whole building, metres: two segments of the corridor, with rooms on both sides.
DIAGONAL = float(np.hypot(2 * SEGMENT_LENGTH, CORRIDOR_WIDTH + 2 * ROOM_SIZE[1]))
CAMERA = Camera(96, 64, 70.0, 70.0, 48.0, 32.0)


@pytest.fixture(scope="module")
def building() -> Building:
    return build(SMALL)


def test_every_pixel_of_every_view_sees_the_building(building: Building) -> None:
    stops = list(walk(building, SMALL))
    assert len(stops) == 3 * 4 + 2 * 3
    for stop in stops:
        depth = building.render(CAMERA, stop.cam_from_world, supersampling=1).depth
        assert depth.min() > 0.1 and depth.max() < DIAGONAL


def test_depth_of_one_view_reprojected_gives_the_colours_of_another_through_a_door(
    building: Building,
) -> None:
    target = np.array([2.0, 2.5, 1.2])
    poses = [look_at(np.array([0.9, y, 1.5]), target) for y in (-0.9, 0.4)]  # in the corridor, in the room
    names = [zone.name for pose in poses if (zone := building.zone_at(-pose[:3, :3].T @ pose[:3, 3]))]
    assert names == ["corridor000", "room000"]
    first, second = (building.render(CAMERA, pose) for pose in poses)
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width] + 0.5
    rays = np.stack([(x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy, np.ones_like(x)], -1)
    world = (rays * first.depth[..., None] - poses[0][:3, 3]) @ poses[0][:3, :3]
    points = world @ poses[1][:3, :3].T + poses[1][:3, 3]
    u = points[..., 0] / points[..., 2] * CAMERA.fx + CAMERA.cx
    v = points[..., 1] / points[..., 2] * CAMERA.fy + CAMERA.cy
    maps = (u - 0.5).astype(np.float32), (v - 0.5).astype(np.float32)
    depth = cv2.remap(second.depth, *maps, cv2.INTER_NEAREST)
    seen = (np.abs(depth - points[..., 2]) < 0.03) & (points[..., 2] > 0)
    assert (seen & (world[..., 1] > 0.1)).mean() > 0.15  # of the image: what is in the room
    warped = cv2.remap(second.rgb, *maps, cv2.INTER_LINEAR).astype(float)
    assert np.median(np.abs(warped - first.rgb)[seen]) < 10


def test_rooms_of_one_furnishing_look_alike_but_are_not_the_same(building: Building) -> None:
    local = look_at(np.array([2.3, 1.2, 1.5]), np.array([2.3, 3.8, 1.3]))
    views = [
        building.render(CAMERA, local @ np.linalg.inv(room.world_from_zone)) for room in building.rooms[:2]
    ]
    np.testing.assert_allclose(views[0].depth, views[1].depth, atol=1e-3)
    different = np.abs(views[0].rgb.astype(int) - views[1].rgb).max(-1) > 20
    assert 0.02 < different.mean() < 0.5


def test_a_zone_is_found_by_its_points_and_outside_there_is_none(building: Building) -> None:
    x, middle = SEGMENT_LENGTH, -CORRIDOR_WIDTH / 2
    places = {
        (1.0, 2.0): "room000",
        (1.0, -4.0): "room001",
        (x + 1, 2.0): "room002",
        (x + 1, middle): "corridor001",
    }
    for (east, north), name in places.items():
        found = building.zone_at(np.array([east, north, 1.2]))
        assert found is not None and found.name == name
    assert building.zone_at(np.array([x + 1, -4.0, 1.2])) is None  # the fourth room was not built


def test_written_scene_is_read_and_its_names_state_the_zones(building: Building, tmp_path: Path) -> None:
    assert write_images(tmp_path, building, SMALL, quiet=True) == (18, 5)
    scene = read_scene(tmp_path, SceneOptions())
    assert len(scene.train) == 18 and len(scene.test) == 5
    for view in [*scene.train, *scene.test]:
        zone = building.zone_at(se3.camera_center(view.cam_from_world).numpy())
        assert zone is not None and f"-{zone.name}." in view.name
    view = scene.train[7]
    rendered = building.render(view.camera, view.cam_from_world.numpy())
    assert np.abs(rendered.rgb.astype(int) - view.load_image()).mean() < 2  # noise of one grey level
    assert view.load_depth is not None
    np.testing.assert_allclose(view.load_depth(), rendered.depth, atol=2e-3)


def test_a_building_without_rooms_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected positive"):
        make_building(tmp_path, BuildingOptions(rooms=0))
