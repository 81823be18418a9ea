"""A synthetic building with exact ground truth, in layout 1: look-alike furnished rooms along a corridor.

Mapping images follow a walk: along the corridor, into each room, round it, and out again. Test images are
beside it. An image's name states the zone that it was taken in. Everything is drawn from a seed: the same
bytes every time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsplatloc.datasets.building_zones import CORRIDOR_WIDTH, DOOR, SEGMENT_LENGTH, Building, Zone
from gsplatloc.datasets.options import BuildingOptions
from gsplatloc.datasets.room import write_split
from gsplatloc.datasets.room_camera import aside, look_at, pose_on_loop
from gsplatloc.datasets.room_furniture import ROOM_SIZE
from gsplatloc.datasets.room_surfaces import Array
from gsplatloc.utils.errors import GSplatLocError

_ENTRY = 0.1  # share of a room's views that go in through its door
_COARSE_WIDTH = 320  # pixels; images up to this wide show textures of half the density
_EYE = 1.45  # metres above the floor of the corridor


@dataclass(frozen=True)
class Stop:
    """A place of the walk."""

    zone: Zone
    cam_from_world: Array  # [4, 4]


def build(options: BuildingOptions) -> Building:
    """The building of these options; raises GSplatLocError if a size or a count is not positive."""
    sizes = (options.width, options.height, options.rooms, options.furnishings, options.supersampling)
    counts = (options.room_views, options.corridor_views, options.room_tests, options.corridor_tests)
    if min(sizes) < 1 or min(counts) < 0 or options.room_views + options.corridor_views < 1:
        raise GSplatLocError(f"expected positive sizes and counts, found {options}: correct the options")
    halvings = 1 if options.width <= _COARSE_WIDTH else 0
    return Building(options.rooms, options.seed, options.furnishings, halvings)


def make_building(
    folder: Path | str, options: BuildingOptions | None = None, quiet: bool = True
) -> tuple[int, int]:
    """Write the scene to `folder`: {train,test}/{rgb,depth,poses,calibration}; returns the numbers of images.

    Poses are camera-to-world 4x4 in metres, calibrations 3x3, depth 16-bit millimetres. Raises GSplatLocError
    if a size or a count is not positive.
    """
    options = options or BuildingOptions()
    return write_images(Path(folder), build(options), options, quiet)


def write_images(folder: Path, building: Building, options: BuildingOptions, quiet: bool) -> tuple[int, int]:
    """Write the images of a building; returns the numbers of mapping and test images."""
    rng = np.random.default_rng([options.seed, 1])
    splits = {"train": list(walk(building, options)), "test": list(query_stops(building, options, rng))}
    for split, stops in splits.items():
        names = (f"{split}-{index:06d}-{stop.zone.name}" for index, stop in enumerate(stops))
        named = [(name, stop.cam_from_world) for name, stop in zip(names, stops, strict=True)]
        write_split(folder / split, building, named, options, quiet)
    return len(splits["train"]), len(splits["test"])


def walk(building: Building, options: BuildingOptions) -> Iterator[Stop]:
    """The mapping views in the order of the walk."""
    for number, segment in enumerate(building.segments):
        for step in range(options.corridor_views):
            yield _stop(building, segment, corridor_pose(step / options.corridor_views))
        for room in building.rooms[2 * number : 2 * number + 2]:
            for step in range(options.room_views):
                yield _stop(building, room, room_pose(step / options.room_views))


def query_stops(building: Building, options: BuildingOptions, rng: np.random.Generator) -> Iterator[Stop]:
    """The test views: beside the walk, at random places of it in every zone."""
    for zone in building.zones:
        is_room = zone in building.rooms
        count, pose_at = (
            (options.room_tests, room_pose) if is_room else (options.corridor_tests, corridor_pose)
        )
        for step in range(count):
            at = (step + rng.uniform(0.1, 0.9)) / count
            yield _stop(building, zone, aside(pose_at(at), rng))


def _stop(building: Building, zone: Zone, cam_from_zone: Array) -> Stop:
    """A pose of the zone, named after the zone that it is in: the way into a room begins in the corridor."""
    rotation, translation = zone.world_from_zone[:3, :3], zone.world_from_zone[:3, 3]
    zone_from_world = np.eye(4)
    zone_from_world[:3, :3], zone_from_world[:3, 3] = rotation.T, -rotation.T @ translation
    cam_from_world = cam_from_zone @ zone_from_world
    found = building.zone_at(-cam_from_world[:3, :3].T @ cam_from_world[:3, 3])
    return Stop(found or zone, cam_from_world)


def room_pose(at: float) -> Array:
    """The pose [4, 4] in a room at the fraction `at` of its walk: in through the door, then one loop."""
    if at >= _ENTRY:
        return pose_on_loop(2 * np.pi * (at - _ENTRY) / (1 - _ENTRY))
    door = (DOOR[0] + DOOR[1]) / 2
    eye = np.array([door, -0.8 + 1.6 * at / _ENTRY, 1.5])
    return look_at(eye, np.array([ROOM_SIZE[0] / 2 - 0.4, ROOM_SIZE[1] * 0.75, 1.1]))


def corridor_pose(at: float) -> Array:
    """The pose [4, 4] at the fraction `at` of a segment: along the corridor, looking from side to side."""
    x = SEGMENT_LENGTH * (at + 0.01)
    heading = np.deg2rad(65) * np.sin(2 * np.pi * at)
    eye = np.array(
        [x, -CORRIDOR_WIDTH / 2 + 0.3 * np.sin(4 * np.pi * at), _EYE + 0.1 * np.sin(10 * np.pi * at)]
    )
    return look_at(eye, eye + [np.cos(heading), np.sin(heading), -0.05])
