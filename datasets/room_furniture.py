"""The furniture of the synthetic room, 4.6 x 3.8 x 2.5 metres, z up, the floor at z = 0."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from gsplatloc.datasets import room_textures as draw
from gsplatloc.datasets.room_light import AreaLight
from gsplatloc.datasets.room_surfaces import (
    Array,
    Cylinder,
    Material,
    Occluder,
    Quad,
    Solid,
    Sphere,
    Surface,
    box,
)

ROOM_SIZE = (4.6, 3.8, 2.5)  # metres along x, y, z
TEXELS_PER_METRE = 190.0
POSTERS = 15  # in the room; `wall_pictures` lists them first
_WALNUT, _OAK, _PINE = (0.42, 0.27, 0.17), (0.68, 0.50, 0.32), (0.80, 0.64, 0.43)

Painter = Callable[[Generator, tuple[int, int]], draw.Texture]


def furnish(rng: Generator) -> tuple[Solid, list[AreaLight]]:
    """The whole room and its lights."""
    room = Solid().add(shell(rng), wall_pictures(rng), bookcase(rng), table(rng))
    room.add(cabinet(rng), sofa(rng), crates(rng), floor_lamp(rng))
    return room, lights()


def paint(rng: Generator, width: float, height: float, painter: Painter, gloss: float = 0.0) -> Material:
    """A material drawn by `painter` for a rectangle of `width` x `height` metres."""
    shape = tuple(max(round(length * TEXELS_PER_METRE), 8) for length in (height, width))
    return Material(painter(rng, (shape[0], shape[1])), gloss)


def wooden(color: tuple[float, float, float]) -> Painter:
    return lambda rng, shape: draw.wood(rng, shape, color)


def vector(*values: float) -> Array:
    return np.array(values, np.float32)


def shell(rng: Generator) -> Solid:
    """Floor, ceiling, four walls, a rug and the skirting."""
    x, y, z = ROOM_SIZE
    floor = paint(rng, x, y, lambda g, s: draw.planks(g, s, _OAK), gloss=0.05)
    ceiling = paint(rng, x, y, lambda g, s: draw.plaster(g, s, (0.90, 0.88, 0.84)))
    north = paint(rng, x, z, draw.bricks)
    south = paint(rng, x, z, lambda g, s: draw.plaster(g, s, (0.80, 0.74, 0.62)))
    east = paint(rng, y, z, lambda g, s: draw.plaster(g, s, (0.52, 0.62, 0.62)))
    west = paint(rng, y, z, lambda g, s: draw.plaster(g, s, (0.72, 0.50, 0.42)))
    rug = paint(rng, 2.4, 1.7, draw.rug)
    surfaces: list[Surface] = [
        Quad(vector(0, y, 0), vector(x, 0, 0), vector(0, -y, 0), floor),
        Quad(vector(0, 0, z), vector(x, 0, 0), vector(0, y, 0), ceiling),
        Quad(vector(0, y, z), vector(x, 0, 0), vector(0, 0, -z), north),
        Quad(vector(x, 0, z), vector(-x, 0, 0), vector(0, 0, -z), south),
        Quad(vector(x, y, z), vector(0, -y, 0), vector(0, 0, -z), east),
        Quad(vector(0, 0, z), vector(0, y, 0), vector(0, 0, -z), west),
        Quad(vector(1.1, 2.75, 0.006), vector(2.4, 0, 0), vector(0, -1.7, 0), rug),
        Quad(vector(1.7, 1.6, z - 0.01), vector(1.2, 0, 0), vector(0, 0.6, 0), panel()),
    ]
    skirting = Solid()
    for center, size in (
        ((x / 2, y - 0.01, 0.05), (x, 0.02, 0.1)),
        ((x - 0.01, y / 2, 0.05), (0.02, y, 0.1)),
    ):
        board = paint(rng, max(size), 0.1, wooden(_WALNUT))
        skirting.add(box(vector(*center), vector(*size), {"rest": board}))
    return Solid(surfaces).add(Solid(skirting.surfaces))  # too thin to cast a shadow


def panel() -> Material:
    """The lit face of the ceiling light, with a grid."""
    face = np.ones((60, 120, 3), np.float32)
    face[:, ::30] = face[::30] = 0.75
    return Material(face, glow=1.3)


def wall_pictures(rng: Generator, door: bool = True) -> Solid:
    """Posters on all walls, a window to the west, a door and a clock to the south, in this order."""
    x, y, _ = ROOM_SIZE
    room = Solid()
    posters = [  # wall, centre along it, centre height, width, height
        ("north", 0.55, 1.60, 0.62, 0.84), ("north", 1.35, 1.72, 0.5, 0.5), ("north", 2.05, 1.55, 0.56, 0.78),
        ("east", 0.75, 1.65, 0.60, 0.82), ("east", 1.55, 1.80, 0.50, 0.40), ("east", 2.30, 1.60, 0.66, 0.88),
        ("east", 3.15, 1.70, 0.52, 0.70), ("south", 1.0, 1.62, 0.60, 0.80), ("south", 1.80, 1.75, 0.56, 0.44),
        ("south", 2.50, 1.55, 0.50, 0.70), ("south", 0.36, 1.55, 0.42, 0.60),
        ("south", 1.95, 1.15, 0.40, 0.50), ("south", 4.4, 1.5, 0.3, 0.42), ("west", 0.50, 1.65, 0.54, 0.74),
        ("west", 3.35, 1.60, 0.56, 0.80),
    ]  # fmt: skip
    for wall, along, height, wide, tall in posters:
        print_ = paint(rng, wide, tall, draw.poster, gloss=0.06)
        room.surfaces.append(_hung(wall, along, height, wide, tall, print_))
    window = Material(draw.landscape(rng, (210, 270)), glow=1.25)
    room.surfaces.append(_hung("west", 1.9, 1.55, 1.5, 1.15, window))
    if door:
        wood = paint(rng, 0.85, 2.05, lambda g, s: draw.panel_door(g, s, (0.36, 0.46, 0.50)))
        room.surfaces.append(_hung("south", 3.75, 1.03, 0.85, 2.05, wood))
    room.surfaces.append(_hung("south", 3.0, 2.1, 0.36, 0.36, paint(rng, 0.36, 0.36, draw.clock)))
    assert len(posters) == POSTERS
    return room


def _hung(wall: str, along: float, height: float, wide: float, tall: float, material: Material) -> Quad:
    """A picture 8 mm before `wall`; `along` is in metres from the wall's left end, seen from inside."""
    x, y, _ = ROOM_SIZE
    gap = 0.008
    start, direction = {
        "north": (vector(0, y - gap, 0), vector(1, 0, 0)),
        "east": (vector(x - gap, y, 0), vector(0, -1, 0)),
        "south": (vector(x, gap, 0), vector(-1, 0, 0)),
        "west": (vector(gap, 0, 0), vector(0, 1, 0)),
    }[wall]
    corner = start + (along - wide / 2) * direction + vector(0, 0, height + tall / 2)
    return Quad(corner, wide * direction, vector(0, 0, -tall), material)


def bookcase(rng: Generator) -> Solid:
    """A bookcase against the northern wall, its back open to the bricks."""
    left, wide, deep, tall = 2.65, 1.5, 0.32, 2.05
    _, y, _ = ROOM_SIZE
    case, middle = Solid(), y - deep / 2
    for x in (left, left + wide):
        side = paint(rng, deep, tall, wooden(_WALNUT))
        case.add(box(vector(x, middle, tall / 2), vector(0.04, deep, tall), {"rest": side}))
    for shelf in range(6):
        z = 0.06 + shelf * (tall - 0.08) / 5
        board = paint(rng, wide, deep, wooden(_WALNUT))
        case.add(box(vector(left + wide / 2, middle, z), vector(wide - 0.04, deep, 0.03), {"rest": board}))
        at = left + 0.03
        while shelf < 5 and at < left + wide - 0.3:
            row = float(rng.uniform(0.32, 0.62))
            row = min(row, left + wide - 0.03 - at)
            case.add(_book_row(rng, at, row, y, z + 0.015))
            at += row + float(rng.uniform(0.02, 0.14))
    return case


def _book_row(rng: Generator, left: float, wide: float, wall_y: float, z: float) -> Solid:
    tall, deep = float(rng.uniform(0.24, 0.33)), float(rng.uniform(0.17, 0.23))
    center = vector(left + wide / 2, wall_y - 0.03 - deep / 2, z + tall / 2)
    pages = Material(draw.tinted((0.82, 0.77, 0.66), draw.noise(rng, (30, 60), 6, 3), 0.15))
    spines = paint(rng, wide, tall, draw.books)
    return box(center, vector(wide, deep, tall), {"front": spines, "rest": pages})


def table(rng: Generator) -> Solid:
    """A table in the middle with cartons, a globe, a stack of books and a mug on it."""
    cx, cy, top = 2.35, 1.9, 0.72
    board = paint(rng, 1.3, 0.75, wooden(_PINE), gloss=0.10)
    table = box(vector(cx, cy, top - 0.02), vector(1.3, 0.75, 0.04), {"rest": board})
    leg = paint(rng, 0.06, top, wooden(_OAK))
    for dx, dy in ((-0.58, -0.3), (0.58, -0.3), (-0.58, 0.3), (0.58, 0.3)):
        center = vector(cx + dx, cy + dy, top / 2 - 0.02)
        table.add(box(center, vector(0.06, 0.06, top - 0.04), {"rest": leg}))
    table.add(crate(rng, (cx - 0.35, cy + 0.08, top), (0.34, 0.26, 0.22), 0.45))
    table.add(crate(rng, (cx - 0.30, cy + 0.10, top + 0.22), (0.22, 0.18, 0.13), -0.2))
    for index, yaw in enumerate((0.1, -0.25, 0.3, 0.02)):
        table.add(_flat_book(rng, (cx + 0.42, cy - 0.16, top + 0.035 * index), yaw))
    globe = Material(draw.globe(rng, (130, 260)), gloss=0.12)
    stand = paint(rng, 0.2, 0.1, wooden(_WALNUT))
    table.surfaces += [
        Sphere(vector(cx + 0.12, cy + 0.16, top + 0.24), 0.16, globe),
        Cylinder(vector(cx + 0.12, cy + 0.16, top), 0.06, 0.10, stand),
        Cylinder(vector(cx + 0.02, cy - 0.24, top), 0.05, 0.11, paint(rng, 0.32, 0.11, draw.poster, 0.1)),
    ]
    shade = [((cx + 0.12, cy + 0.16, top + 0.24), 0.09), ((cx + 0.02, cy - 0.24, top + 0.055), 0.045)]
    table.occluders += [Occluder(vector(*center), vector(half, half, half)) for center, half in shade]
    return table


def _flat_book(rng: Generator, at: tuple[float, float, float], yaw: float) -> Solid:
    size = vector(float(rng.uniform(0.2, 0.27)), float(rng.uniform(0.15, 0.19)), 0.035)
    cover = paint(rng, float(size[0]), float(size[1]), draw.poster, 0.05)
    spine = Material(draw.books(rng, (round(size[0] * TEXELS_PER_METRE), 9)).transpose(1, 0, 2).copy())
    return box(vector(*at) + vector(0, 0, 0.0175), size, {"top": cover, "rest": spine}, yaw)


def cabinet(rng: Generator) -> Solid:
    """A chest of drawers under the eastern posters, with a sphere and a vase on top."""
    x, _, _ = ROOM_SIZE
    wide, deep, tall, cy = 1.4, 0.45, 0.85, 1.75
    front = paint(rng, wide, tall, _drawers, gloss=0.05)
    side = paint(rng, wide, deep, wooden(_OAK), gloss=0.05)
    chest = box(vector(x - deep / 2, cy, tall / 2), vector(deep, wide, tall), {"left": front, "rest": side})
    vase = paint(rng, 0.5, 0.3, lambda g, s: draw.fabric(g, s, (0.20, 0.34, 0.48)), gloss=0.15)
    ball = Material(draw.fabric(rng, (90, 180), (0.85, 0.55, 0.25)), gloss=0.1)
    chest.surfaces += [
        Cylinder(vector(x - 0.22, cy + 0.45, tall), 0.08, 0.3, vase),
        Sphere(vector(x - 0.24, cy - 0.35, tall + 0.13), 0.13, ball),
    ]
    chest.occluders += [
        Occluder(vector(x - 0.22, cy + 0.45, tall + 0.15), vector(0.05, 0.05, 0.14)),
        Occluder(vector(x - 0.24, cy - 0.35, tall + 0.13), vector(0.07, 0.07, 0.07)),
    ]
    return chest.add(crate(rng, (x - 0.22, cy + 0.05, tall), (0.2, 0.3, 0.2), 0.2))


def _drawers(rng: Generator, shape: tuple[int, int]) -> draw.Texture:
    image = draw.wood(rng, shape, _OAK)
    rows, columns = 3, 2
    for row in range(rows):
        for column in range(columns):
            top, left = row * shape[0] // rows, column * shape[1] // columns
            field = draw.wood(rng, (shape[0] // rows - 8, shape[1] // columns - 8), (0.62, 0.44, 0.27))
            image[top + 4 : top + 4 + field.shape[0], left + 4 : left + 4 + field.shape[1]] = field
            x, y = left + shape[1] // columns // 2, top + shape[0] // rows // 2
            image[y - 3 : y + 3, x - 12 : x + 12] = 0.12  # the handle
    return image


def sofa(rng: Generator) -> Solid:
    """A printed sofa under the window, with two cushions."""

    def cloth(g: Generator, s: tuple[int, int]) -> draw.Texture:
        return draw.fabric(g, s, (0.28, 0.38, 0.36))

    sofa = box(vector(0.48, 1.9, 0.22), vector(0.8, 1.9, 0.44), {"rest": paint(rng, 1.9, 0.8, cloth)})
    sofa.add(box(vector(0.17, 1.9, 0.62), vector(0.2, 1.9, 0.4), {"rest": paint(rng, 1.9, 0.4, cloth)}))
    for y in (1.02, 2.78):
        sofa.add(box(vector(0.48, y, 0.34), vector(0.8, 0.16, 0.6), {"rest": paint(rng, 0.8, 0.6, cloth)}))
    for y, yaw in ((1.45, 0.25), (2.35, -0.2)):
        cushion = paint(rng, 0.38, 0.36, draw.rug)
        sofa.add(box(vector(0.36, y, 0.62), vector(0.12, 0.38, 0.36), {"rest": cushion}, yaw))
    return sofa


def crates(rng: Generator, doorway: bool = False) -> Solid:
    """Cartons stacked in the corners; with `doorway` none stand before the door."""
    places = [
        ((0.55, 0.45, 0.0), (0.50, 0.42, 0.40), 0.3), ((0.60, 0.48, 0.40), (0.36, 0.34, 0.30), -0.15),
        ((4.15, 3.35, 0.0), (0.46, 0.46, 0.44), -0.4), ((1.95, 0.35, 0.0), (0.52, 0.38, 0.34), 0.1),
        ((2.02, 0.33, 0.34), (0.34, 0.28, 0.24), -0.3), ((1.15, 3.40, 0.0), (0.44, 0.40, 0.52), 0.2),
    ]  # fmt: skip
    return Solid().add(*(crate(rng, *place) for place in places[2 * doorway :]))


def crate(
    rng: Generator, at: tuple[float, float, float], size: tuple[float, float, float], yaw: float
) -> Solid:
    """A carton standing at `at` (centre of its bottom) with a different print on every side."""
    x, y, z = size
    faces = {face: paint(rng, x, z, draw.carton) for face in ("front", "back")}
    faces |= {face: paint(rng, y, z, draw.carton) for face in ("left", "right")}
    faces["top"] = paint(rng, x, y, draw.carton)
    return box(vector(at[0], at[1], at[2] + z / 2), vector(*size), faces, yaw)


def floor_lamp(rng: Generator) -> Solid:
    """A lamp in the north-west corner: a thin pole and a glowing shade."""
    x, y = 0.42, 3.38
    shade = Material(draw.tinted((1.0, 0.86, 0.62), draw.noise(rng, (60, 200), 14, 4), 0.12), glow=1.1)
    pole = paint(rng, 0.1, 1.4, lambda g, s: draw.plaster(g, s, (0.2, 0.2, 0.22)))
    lamp = Solid()
    lamp.surfaces.append(Cylinder(vector(x, y, 0.0), 0.018, 1.4, pole))
    lamp.surfaces.append(Cylinder(vector(x, y, 1.38), 0.17, 0.3, shade))
    lamp.occluders.append(Occluder(vector(x, y, 0.015), vector(0.13, 0.13, 0.015)))
    return lamp


def lights() -> list[AreaLight]:
    """The warm ceiling panel and the cool window."""
    panel = AreaLight(
        center=vector(2.3, 1.9, 2.48),
        u_half=vector(0.6, 0, 0),
        v_half=vector(0, 0.3, 0),
        normal=vector(0, 0, -1),
        color=vector(2.3, 2.1, 1.8),
    )
    window = AreaLight(
        center=vector(0.03, 1.9, 1.55),
        u_half=vector(0, 0.7, 0),
        v_half=vector(0, 0, 0.55),
        normal=vector(1, 0, 0),
        color=vector(1.3, 1.6, 2.0),
    )
    return [panel, window]
