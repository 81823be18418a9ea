"""A building of furnished rooms along a corridor: its zones, and images by ray casting through its doors.

A zone is a room or a segment of the corridor, with coordinates of its own. Rays that leave it through an
opening meet the zone behind it, within the window of the image that the opening covers. So the time of an
image depends on what it shows and not on the size of the building. Rooms share the surfaces of a few
furnishings: the memory hardly grows with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from gsplatloc.datasets import room_furniture as furniture
from gsplatloc.datasets import room_textures as draw
from gsplatloc.datasets.room_camera import AMBIENT, Hits, Room, RoomView, averaged, halve, image_window
from gsplatloc.datasets.room_furniture import ROOM_SIZE, paint, vector, wooden
from gsplatloc.datasets.room_light import AreaLight, bake
from gsplatloc.datasets.room_surfaces import Array, Material, Quad, Solid, Surface, box
from gsplatloc.scene.cameras import Camera

CORRIDOR_WIDTH = 2.0  # metres, along y
SEGMENT_LENGTH = ROOM_SIZE[0] + 0.1  # metres, along x: a room and a wall
DOOR = (0.425, 1.275, 2.05)  # metres: left and right end of the opening in a room's southern wall, its height
_HEIGHT = ROOM_SIZE[2]
_CARPET, _PAINT = (0.34, 0.38, 0.44), (0.78, 0.80, 0.74)
_STREAM = 977  # of random numbers, beside those of the furnishings


@dataclass
class Zone:
    """A room or a segment of the corridor."""

    name: str
    layers: list[Room]  # in the zone's coordinates; several zones may share one
    world_from_zone: Array  # [4, 4]
    size: tuple[float, float]  # metres along x and y from `low`
    low: tuple[float, float]  # the corner with the smallest x and y, in the zone's coordinates
    portals: list[tuple["Zone", Array]] = field(
        default_factory=list
    )  # neighbour; corners [4, 3] of the opening

    def in_zone(self, point: Array) -> Array:
        """A point [3] of the world in the zone's coordinates."""
        rotation = self.world_from_zone[:3, :3]
        local: Array = rotation.T @ (point - self.world_from_zone[:3, 3])
        return local

    def holds(self, point: Array) -> bool:
        """Whether a point [3] of the world is in the zone."""
        local = self.in_zone(point)[:2] - self.low
        return bool((local >= 0).all() and (local <= self.size).all() and 0 <= point[2] <= _HEIGHT)

    def open_to(self, other: "Zone", corners: Array) -> None:
        """Join two zones by an opening, whose corners [4, 3] are in this zone's coordinates."""
        rotation, origin = self.world_from_zone[:3, :3], self.world_from_zone[:3, 3]
        self.portals.append((other, corners))
        other.portals.append(
            (self, np.array([other.in_zone(rotation @ corner + origin) for corner in corners]))
        )


@dataclass(frozen=True)
class _Part:
    """The visible part of a layer in an image."""

    layer: Room
    window: tuple[slice, slice]  # rows and columns
    cam_from_zone: Array  # [4, 4]
    hits: Hits  # of the rays in the window
    nearest: Array  # bool, of the window: where no other layer is nearer


class Building:
    """Rooms 0, 2, ... north of a corridor along x, rooms 1, 3, ... south of it."""

    def __init__(self, rooms: int, seed: int = 0, furnishings: int = 4, halvings: int = 0) -> None:
        """Rooms of the same number modulo `furnishings` look alike: they differ in every second poster.

        Textures are kept at 1 / 2^`halvings` of their 190 texels per metre, which suffices for small images.
        """
        furnishings = min(furnishings, rooms)
        styles = [furnishing([seed, style], halvings) for style in range(furnishings)]
        self.rooms = [
            Zone(
                f"room{number:03d}",
                [*styles[number % furnishings], own_posters([seed, _STREAM, number], halvings)],
                room_place(number),
                ROOM_SIZE[:2],
                (0.0, 0.0),
            )
            for number in range(rooms)
        ]
        self.segments = _corridor(rooms, seed, halvings)
        left, right, height = DOOR
        opening = np.array([[left, 0, 0], [right, 0, 0], [left, 0, height], [right, 0, height]])
        for number, room in enumerate(self.rooms):
            room.open_to(self.segments[number // 2], opening)
        for west, east in zip(self.segments, self.segments[1:]):
            y, z = (-CORRIDOR_WIDTH, 0.0), (0.0, _HEIGHT)
            west.open_to(east, np.array([[SEGMENT_LENGTH, at, up] for at in y for up in z]))

    @property
    def zones(self) -> list[Zone]:
        return [*self.rooms, *self.segments]

    def zone_at(self, point: Array) -> Zone | None:
        """The zone that holds a point [3] of the world; None outside the building."""
        return next((zone for zone in self.zones if zone.holds(point)), None)

    def render(self, camera: Camera, cam_from_world: Array, supersampling: int = 2) -> RoomView:
        """Render from pose [4, 4]; each pixel is the mean of supersampling^2 rays."""
        fine = camera.resized(camera.width * supersampling, camera.height * supersampling)
        linear = np.zeros((fine.height, fine.width, 3), np.float32)
        for part in self._cast(fine, cam_from_world):
            linear[part.window][part.nearest] = part.layer.shade(
                part.hits.at(part.nearest), fine, part.cam_from_zone
            )
        depth = np.zeros((camera.height, camera.width), np.float32)
        for part in self._cast(camera, cam_from_world):
            depth[part.window][part.nearest] = part.hits.depth[part.nearest]
        return RoomView(averaged(linear, supersampling), depth)

    def _cast(self, camera: Camera, cam_from_world: Array) -> list["_Part"]:
        """The layers in view, with what is nearest of each."""
        parts = []
        nearest = np.full((camera.height, camera.width), np.inf, np.float32)
        for layer, window, cam_from_zone in self._seen(camera, cam_from_world):
            hits = layer.cast(cropped(camera, window), cam_from_zone)
            depth = np.where(hits.depth > 0, hits.depth, np.float32(np.inf))
            nearest[window] = np.minimum(nearest[window], depth)
            parts.append((layer, window, cam_from_zone, hits))
        return [_Part(*part, (part[3].depth > 0) & (part[3].depth == nearest[part[1]])) for part in parts]

    def _seen(
        self, camera: Camera, cam_from_world: Array
    ) -> Iterator[tuple[Room, tuple[slice, slice], Array]]:
        """The layers that may be in view, with their windows of the image and the poses in their zones."""
        start = self.zone_at(-cam_from_world[:3, :3].T @ cam_from_world[:3, 3])
        whole = (slice(0, camera.height), slice(0, camera.width))
        stack: list[tuple[Zone, tuple[slice, slice], Zone | None]] = (
            [] if start is None else [(start, whole, None)]
        )
        while stack:
            zone, window, before = stack.pop()
            cam_from_zone = cam_from_world @ zone.world_from_zone
            for layer in zone.layers:
                yield layer, window, cam_from_zone
            for neighbour, corners in zone.portals:
                seen = None if neighbour is before else image_window(corners, camera, cam_from_zone)
                common = None if seen is None else _common(seen, window)
                if common is not None:
                    stack.append((neighbour, common, zone))


def cropped(camera: Camera, window: tuple[slice, slice]) -> Camera:
    """The camera of the rows and columns `window` of an image."""
    rows, columns = window
    width, height = columns.stop - columns.start, rows.stop - rows.start
    return Camera(width, height, camera.fx, camera.fy, camera.cx - columns.start, camera.cy - rows.start)


def _common(a: tuple[slice, slice], b: tuple[slice, slice]) -> tuple[slice, slice] | None:
    rows, columns = (slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def room_place(number: int) -> Array:
    """world_from_zone [4, 4] of a room: north of the corridor, or turned by half a turn south of it."""
    place = np.eye(4)
    place[0, 3] = (number // 2) * SEGMENT_LENGTH + 0.05
    if number % 2:
        place[0, 0] = place[1, 1] = -1
        place[0, 3] += ROOM_SIZE[0]
        place[1, 3] = -CORRIDOR_WIDTH
    return place


def furnishing(seed: list[int], halvings: int) -> list[Room]:
    """The layers that rooms of one furnishing share: everything but every second poster and the door."""
    rng = np.random.default_rng(seed)
    shell, pictures = furniture.shell(rng), furniture.wall_pictures(rng, door=False)
    left, right, height = DOOR
    south = _southern_wall(shell)
    shell.surfaces = [s for s in shell.surfaces if s is not south] + list(
        _with_opening(south, left, right, height)
    )
    pictures.surfaces = [s for index, s in enumerate(pictures.surfaces) if not _is_own(index)]
    solid = Solid().add(
        shell, pictures, furniture.bookcase(rng), furniture.table(rng), furniture.cabinet(rng)
    )
    solid.add(furniture.sofa(rng), furniture.crates(rng, doorway=True), furniture.floor_lamp(rng))
    return [lit(solid, furniture.lights(), halvings)]


def own_posters(seed: list[int], halvings: int) -> Room:
    """The layer that only one room has."""
    pictures = furniture.wall_pictures(np.random.default_rng(seed), door=False)
    own = [surface for index, surface in enumerate(pictures.surfaces) if _is_own(index)]
    return lit(Solid(own), furniture.lights(), halvings)


def lit(solid: Solid, lights: list[AreaLight], halvings: int) -> Room:
    """The surfaces with baked light, their textures shrunk."""
    textures = bake(solid.surfaces, solid.occluders, lights, AMBIENT)
    for _ in range(halvings):
        textures = [halve(texture) for texture in textures]
    return Room(solid.surfaces, textures)


def _is_own(picture: int) -> bool:
    return picture < furniture.POSTERS and picture % 2 == 0


def _southern_wall(shell: Solid) -> Quad:
    facing = vector(0, 1, 0)
    walls = [
        s
        for s in shell.surfaces
        if isinstance(s, Quad) and s.size[1] == _HEIGHT and (s.normal == facing).all()
    ]
    (south,) = walls
    return south


def _with_opening(wall: Quad, left: float, right: float, height: float) -> Iterator[Quad]:
    """The parts of a wall beside and above an opening from x = `left` to `right`, of a texture each."""
    width, tall = wall.size
    ends = sorted(((x - wall.corner[0]) / wall.u_edge[0]) for x in (left, right))
    top = 1 - height / tall
    for u0, u1, v0, v1 in ((0, ends[0], 0, 1), (ends[1], 1, 0, 1), (ends[0], ends[1], 0, top)):
        yield _part(wall, float(u0), float(u1), v0, v1)


def _part(quad: Quad, u0: float, u1: float, v0: float, v1: float) -> Quad:
    rows, columns = quad.material.albedo.shape[:2]
    at = [round(v0 * rows), round(v1 * rows), round(u0 * columns), round(u1 * columns)]
    albedo = np.ascontiguousarray(quad.material.albedo[at[0] : at[1], at[2] : at[3]])
    corner = quad.corner + np.float32(u0) * quad.u_edge + np.float32(v0) * quad.v_edge
    edges = np.float32(u1 - u0) * quad.u_edge, np.float32(v1 - v0) * quad.v_edge
    return Quad(corner, *edges, Material(albedo, quad.material.gloss))


def _corridor(rooms: int, seed: int, halvings: int) -> list[Zone]:
    """The segments, which share floor, ceiling, walls and furniture, with posters of their own."""
    count = (rooms + 1) // 2

    @cache
    def shared(southern_door: bool) -> Room:
        return lit(
            _segment(np.random.default_rng([seed, _STREAM]), southern_door), [_ceiling_light()], halvings
        )

    segments = []
    for number in range(count):
        rng = np.random.default_rng([seed, _STREAM, _STREAM, number])
        own: list[Surface] = list(_corridor_posters(rng, 2 * number + 1 < rooms))
        own += [
            _end_wall(rng, x)
            for x in (0.0, SEGMENT_LENGTH)
            if (number, x) in ((0, 0.0), (count - 1, SEGMENT_LENGTH))
        ]
        place = np.eye(4)
        place[0, 3] = number * SEGMENT_LENGTH
        layers = [shared(2 * number + 1 < rooms), lit(Solid(own), [_ceiling_light()], halvings)]
        size, low = (SEGMENT_LENGTH, CORRIDOR_WIDTH), (0.0, -CORRIDOR_WIDTH)
        segments.append(Zone(f"corridor{number:03d}", layers, place, size, low))
    return segments


def _segment(rng: np.random.Generator, southern_door: bool) -> Solid:
    x, y, z = SEGMENT_LENGTH, CORRIDOR_WIDTH, _HEIGHT
    floor = paint(rng, x, y, lambda g, s: draw.fabric(g, s, _CARPET))
    ceiling = paint(rng, x, y, lambda g, s: draw.plaster(g, s, (0.88, 0.88, 0.86)))
    walls = [paint(rng, x, z, lambda g, s: draw.plaster(g, s, _PAINT)) for _ in range(2)]
    north = Quad(vector(0, 0, z), vector(x, 0, 0), vector(0, 0, -z), walls[0])
    south = Quad(vector(x, -y, z), vector(-x, 0, 0), vector(0, 0, -z), walls[1])
    left, right, panel = DOOR[0] + 0.05, DOOR[1] + 0.05, furniture.panel()
    solid = Solid([
        Quad(vector(0, 0, 0), vector(x, 0, 0), vector(0, -y, 0), floor),
        Quad(vector(0, -y, z), vector(x, 0, 0), vector(0, y, 0), ceiling),
        Quad(vector(x / 2 - 0.6, -y / 2 - 0.3, z - 0.01), vector(1.2, 0, 0), vector(0, 0.6, 0), panel),
        *_with_opening(north, left, right, DOOR[2]),
        *(_with_opening(south, x - right, x - left, DOOR[2]) if southern_door else [south]),
    ])  # fmt: skip
    seat = paint(rng, 1.2, 0.35, wooden((0.68, 0.50, 0.32)))
    solid.add(box(vector(2.4, -0.2, 0.22), vector(1.2, 0.35, 0.44), {"rest": seat}))
    solid.add(furniture.crate(rng, (1.2, -y + 0.3, 0.0), (0.46, 0.40, 0.42), 0.2))
    return solid


def _corridor_posters(rng: np.random.Generator, southern_door: bool) -> Iterator[Quad]:
    y, gap = CORRIDOR_WIDTH, 0.008
    northern = [(1.8, 1.55), (2.7, 1.65), (3.5, 1.5), (4.3, 1.6)]
    southern = [(0.4, 1.6), (1.2, 1.5), (2.0, 1.65), (2.8, 1.55)] + ([] if southern_door else [(3.7, 1.6)])
    for posters, side, wall in ((northern, 1, -gap), (southern, -1, gap - y)):
        for along, height in posters:
            wide, tall = float(rng.uniform(0.4, 0.62)), float(rng.uniform(0.5, 0.85))
            corner, poster = vector(along - side * wide / 2, wall, height + tall / 2), draw.poster
            material = paint(rng, wide, tall, poster, 0.06)
            yield Quad(corner, vector(side * wide, 0, 0), vector(0, 0, -tall), material)


def _end_wall(rng: np.random.Generator, x: float) -> Quad:
    """The wall that closes the corridor in the west, at x = 0, or in the east."""
    y, z = CORRIDOR_WIDTH, _HEIGHT
    door = paint(rng, y, z, lambda g, s: draw.panel_door(g, s, (0.36, 0.46, 0.50)))
    corner, edge = (vector(0, -y, z), vector(0, y, 0)) if x == 0 else (vector(x, 0, z), vector(0, -y, 0))
    return Quad(corner, edge, vector(0, 0, -z), door)


def _ceiling_light() -> AreaLight:
    return AreaLight(
        center=vector(SEGMENT_LENGTH / 2, -CORRIDOR_WIDTH / 2, _HEIGHT - 0.02),
        u_half=vector(0.6, 0, 0),
        v_half=vector(0, 0.3, 0),
        normal=vector(0, 0, -1),
        color=vector(2.2, 2.2, 2.1),
    )
