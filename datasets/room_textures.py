"""Procedural textures [h, w, 3] in sRGB [0, 1], every one drawn from a seeded Generator."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Texture = NDArray[np.float32]
Color = Sequence[float] | NDArray[np.floating]

WORDS = [
    "ATLAS", "PRISM", "NORTH", "LOCUS", "ORBIT", "DELTA", "EMBER", "QUARTZ", "HARBOR", "NIMBUS", "VECTOR",
    "SONATA", "COBALT", "MERIDIAN", "LANTERN", "FJORD", "ZEPHYR", "BASALT", "CIPHER", "TUNDRA", "OPAL",
    "RAVEN", "SEXTANT", "GNOMON", "PARALLAX",
]  # fmt: skip
_INK = [(0.13, 0.16, 0.24), (0.80, 0.25, 0.18), (0.93, 0.70, 0.24), (0.18, 0.45, 0.50), (0.95, 0.92, 0.84),
        (0.35, 0.22, 0.45), (0.55, 0.68, 0.42), (0.90, 0.52, 0.40)]  # fmt: skip


def noise(rng: Generator, shape: tuple[int, int], cell: float, octaves: int = 4) -> Texture:
    """Value noise [h, w] in about [-1, 1]: random grids, each octave half as large and half as strong.

    `cell` is the coarsest grid's spacing in texels.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        spacing = max(cell / 2**octave, 1.0)
        grid = rng.uniform(-1, 1, (int(height / spacing) + 3, int(width / spacing) + 3)).astype(np.float32)
        size = (round(grid.shape[1] * spacing), round(grid.shape[0] * spacing))
        total += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)[:height, :width] / 2**octave
    return total


def tinted(color: Color, variation: Texture, strength: float = 0.1) -> Texture:
    """`color` made lighter and darker by `variation` [h, w]."""
    return np.clip(np.asarray(color, np.float32) * (1 + strength * variation[..., None]), 0, 1)


def plaster(rng: Generator, shape: tuple[int, int], color: Color) -> Texture:
    """A painted wall: broad stains, fine grain and a few hairline cracks."""
    image = tinted(color, noise(rng, shape, 90, 6), 0.12)
    image *= 1 + 0.10 * noise(rng, shape, 9, 3)[..., None]
    for _ in range(shape[0] * shape[1] // 60_000 + 1):
        steps = rng.normal(0, 6, (24, 2)) + rng.normal(0, 4, 2)
        points = (rng.uniform(0, 1, 2) * shape[::-1] + np.cumsum(steps, 0)).astype(np.int32)
        cv2.polylines(image, [points], False, [0.72 * c for c in color], 1)
    return image


def bricks(rng: Generator, shape: tuple[int, int], course: int = 15) -> Texture:
    """Running bond: courses of `course` texels, each brick of its own hue."""
    height, width = shape
    rows, columns = height // course + 1, width // (3 * course) + 3
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warp = noise(rng, shape, 12, 2)
    y, x = y + 0.6 * warp, x + 0.6 * np.roll(warp, 7, 0)
    row = np.clip((y / course).astype(int), 0, rows - 1)
    shifted = x / (3 * course) + 0.5 * (row % 2)
    column = np.clip(shifted.astype(int), 0, columns - 1)
    tone = rng.uniform(0.62, 1.12, (rows, columns, 1)) * (1 + rng.normal(0, 0.05, (rows, columns, 3)))
    image = tone[row, column] * [0.66, 0.34, 0.26] * (1 + 0.14 * noise(rng, shape, 10, 4)[..., None])
    mortar = (np.mod(y, course) < 1.6) | (np.mod(shifted, 1) * 3 * course < 1.6)
    image[mortar] = 0.72 + 0.06 * noise(rng, shape, 6, 2)[mortar][:, None]
    return np.clip(image, 0, 1).astype(np.float32)


def wood(rng: Generator, shape: tuple[int, int], color: Color) -> Texture:
    """Grain along the rows: rings of a warped ramp, fibres, and now and then a knot."""
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warp = cv2.resize(noise(rng, (height, width // 8 + 2), 24, 4), (width, height))
    distance = y + 10 * warp
    for _ in range(rng.integers(1, 2 + shape[0] * shape[1] // 30_000)):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        distance += 9 * np.exp(-((x - cx) ** 2 / 260 + (y - cy) ** 2 / 60))
    rings = np.sin(distance * rng.uniform(0.35, 0.55) + rng.uniform(0, 6))
    fibres = cv2.resize(noise(rng, (height, width // 12 + 2), 2, 2), (width, height))
    return tinted(color, 0.6 * rings * (0.6 + 0.4 * warp) + 0.5 * fibres, 0.22)


def planks(rng: Generator, shape: tuple[int, int], color: Color, breadth: int = 26) -> Texture:
    """Floor boards along the rows, each cut from wood of its own, with dark joints."""
    image = np.zeros((*shape, 3), np.float32)
    for top in range(0, shape[0], breadth):
        left = -int(rng.integers(0, 150))
        while left < shape[1]:
            length = int(rng.integers(130, 260))
            tone = np.asarray(color) * rng.uniform(0.7, 1.15) * (1 + rng.normal(0, 0.03, 3))
            board = wood(rng, (breadth, length), tone)
            board[0], board[:, 0] = 0.15, 0.15
            rows, start, stop = min(breadth, shape[0] - top), max(left, 0), min(left + length, shape[1])
            if stop > start:
                image[top : top + rows, start:stop] = board[:rows, start - left : stop - left]
            left += length
    return image


def rug(rng: Generator, shape: tuple[int, int]) -> Texture:
    """A woven rug: a border, and a field of random mirrored tiles so that no two places look the same."""
    height, width = shape
    cells = rng.integers(0, 6, (height // 9 + 1, width // 9 + 1))
    palette = np.array([_INK[i] for i in (1, 2, 0, 4, 3, 7)], np.float32)
    palette = 0.75 * palette + 0.1
    image = cv2.resize(palette[cells], (width, height), interpolation=cv2.INTER_NEAREST)
    for inset, color in ((0, palette[2]), (10, palette[3]), (14, palette[0])):
        cv2.rectangle(image, (inset, inset), (width - 1 - inset, height - 1 - inset), color.tolist(), 5)
    weave = 0.5 + 0.5 * np.sin(np.arange(height) * 2.2)[:, None] * np.sin(np.arange(width) * 2.2)[None]
    shade = (0.82 + 0.18 * weave) * (1 + 0.08 * noise(rng, shape, 4, 2))
    return np.clip(image * shade[..., None], 0, 1)


def fabric(rng: Generator, shape: tuple[int, int], color: Color) -> Texture:
    """Upholstery with a scatter of printed leaves."""
    image = tinted(color, noise(rng, shape, 20, 5), 0.16)
    for _ in range(shape[0] * shape[1] // 900):
        center = (int(rng.uniform(0, shape[1])), int(rng.uniform(0, shape[0])))
        axes = (int(rng.integers(4, 11)), int(rng.integers(2, 5)))
        ink = [float(c) * rng.uniform(0.5, 1.1) for c in _INK[rng.integers(len(_INK))]]
        cv2.ellipse(image, center, axes, float(rng.uniform(0, 180)), 0, 360, ink, -1)
    return image


def poster(rng: Generator, shape: tuple[int, int]) -> Texture:
    """A framed print: overlapping shapes over a tinted ground, a title and lines of small print."""
    height, width = shape
    ground, *inks = (np.array(_INK)[rng.permutation(len(_INK))]).tolist()
    image = tinted(ground, noise(rng, shape, 60, 5), 0.15)
    for index in range(int(rng.integers(9, 16))):
        _shape(rng, image, inks[index % len(inks)])
    band = int(height * rng.uniform(0.70, 0.80))
    image[band:] = 0.25 * image[band:] + 0.75 * np.asarray(ground, np.float32)
    ink = inks[0] if abs(sum(inks[0]) - sum(ground)) > 0.6 else [1 - c for c in ground]
    write(image, str(rng.choice(WORDS)), (6, band + 4, width - 12, int((height - band) * 0.55)), ink)
    for line in range(int(height * 0.91), height - 6, 5):
        words = " ".join(str(word).lower() for word in rng.choice(WORDS, 5))
        write(image, words, (8, line, width - 16, 5), ink)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), (0.10, 0.08, 0.07), 7)
    cv2.rectangle(image, (5, 5), (width - 6, height - 6), (0.93, 0.91, 0.87), 2)
    return np.clip(image, 0, 1)


def carton(rng: Generator, shape: tuple[int, int]) -> Texture:
    """A cardboard face with a strip of tape, a stamp and a label full of bars."""
    height, width = shape
    image = tinted((0.70, 0.54, 0.36), noise(rng, shape, 30, 5), 0.10)
    cv2.rectangle(image, (0, int(height * 0.46)), (width, int(height * 0.56)), (0.83, 0.76, 0.60), -1)
    write(image, str(rng.choice(WORDS)), (6, 5, int(width * 0.8), int(height * 0.3)), (0.20, 0.15, 0.12))
    left, top = int(width * rng.uniform(0.05, 0.4)), int(height * 0.60)
    right, bottom = left + int(width * 0.5), height - 5
    cv2.rectangle(image, (left, top), (right, bottom), (0.95, 0.94, 0.90), -1)
    x = left + 3
    while x < right - 3:
        bar = int(rng.integers(1, 4))
        image[top + 3 : max(bottom - 6, top + 4), x : x + bar] = 0.1
        x += bar + int(rng.integers(1, 4))
    cv2.circle(image, (int(width * 0.85), int(height * 0.75)), max(height // 9, 3), (0.75, 0.2, 0.15), 2)
    return image


def books(rng: Generator, shape: tuple[int, int]) -> Texture:
    """A row of spines of many widths and heights, with titles from the bottom up."""
    height, width = shape
    image = np.full((height, width, 3), 0.07, np.float32)
    left = 1
    while left < width - 5:
        thick = min(int(rng.integers(6, 15)), width - 1 - left)
        tall = int(height * rng.uniform(0.72, 0.99))
        color = np.clip(np.array(_INK[rng.integers(len(_INK))]) * rng.uniform(0.7, 1.15), 0, 1)
        spine = tinted(color, noise(rng, (thick, tall), 12, 3), 0.12)
        ink = (0.95, 0.90, 0.75) if color.sum() < 1.6 else (0.15, 0.13, 0.12)
        for band in (3, tall - 5):
            spine[:, band : band + 2] = ink
        write(spine, str(rng.choice(WORDS)), (8, 1, tall - 18, thick - 2), ink)
        spine[0] *= 0.5
        image[height - tall :, left : left + thick] = cv2.rotate(spine, cv2.ROTATE_90_COUNTERCLOCKWISE)
        left += thick + int(rng.random() < 0.15) * 3
    return image


def globe(rng: Generator, shape: tuple[int, int]) -> Texture:
    """Continents, seas and a graticule on a longitude-latitude map that closes at its seam."""
    height, width = shape
    field = noise(rng, (height, width), 40, 5)
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None]
    field = (1 - ramp) * field + ramp * np.roll(field, width // 2, 1)[:, ::-1]  # both ends meet
    land = field > 0.1
    earth, sea = tinted((0.80, 0.70, 0.42), field, 0.3), tinted((0.16, 0.38, 0.55), field, 0.3)
    image = np.where(land[..., None], earth, sea)
    coast = cv2.morphologyEx(land.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    image[coast > 0] = (0.25, 0.17, 0.12)
    image[:: max(height // 9, 1)] *= 0.75
    image[:, :: max(width // 18, 1)] *= 0.75
    return image.astype(np.float32)


def landscape(rng: Generator, shape: tuple[int, int]) -> Texture:
    """The view from a window: a sky, ranges of hills and the window's own bars."""
    height, width = shape
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = (1 - y) * np.array([0.55, 0.75, 0.95], np.float32) + y * np.array([0.98, 0.93, 0.82], np.float32)
    clouds = np.clip(noise(rng, shape, 70, 5), 0, 1)[..., None] * (1 - y)
    image = np.repeat(image, width, 1) if image.shape[1] == 1 else image
    image = image * (1 - 0.6 * clouds) + 0.6 * clouds
    for index, green in enumerate(((0.55, 0.66, 0.70), (0.40, 0.56, 0.46), (0.22, 0.40, 0.24))):
        ridge = height * (0.52 + 0.13 * index) + 0.09 * height * noise(rng, (1, width), 60, 5)[0]
        below = np.arange(height)[:, None] > ridge[None]
        image[below] = tinted(green, noise(rng, shape, 10, 4), 0.25)[below]
    for at in (0, width // 2 - 4, width - 8):
        image[:, at : at + 8] = 0.96
    for at in (0, height // 2 - 4, height - 8):
        image[at : at + 8] = 0.96
    return image.astype(np.float32)


def panel_door(rng: Generator, shape: tuple[int, int], color: Color) -> Texture:
    """A door of six fields with a brass handle."""
    height, width = shape
    image = np.ascontiguousarray(np.rot90(wood(rng, (width, height), color)))
    for row in range(3):
        for column in range(2):
            left, top = int(width * (0.10 + 0.43 * column)), int(height * (0.06 + 0.31 * row))
            right, bottom = left + int(width * 0.37), top + int(height * 0.26)
            cv2.rectangle(image, (left, top), (right, bottom), [0.55 * c for c in color], 3)
            edge = [min(1.25 * c, 1) for c in color]
            cv2.rectangle(image, (left + 4, top + 4), (right - 4, bottom - 4), edge, 1)
    cv2.circle(image, (int(width * 0.93), int(height * 0.52)), 6, (0.85, 0.70, 0.35), -1)
    return image


def clock(rng: Generator, shape: tuple[int, int]) -> Texture:
    """A square wall clock with numerals."""
    size = shape[0]
    image = tinted((0.94, 0.92, 0.86), noise(rng, shape, 30, 4), 0.05)
    middle, radius = (size / 2, size / 2), size * 0.40
    cv2.circle(image, (size // 2, size // 2), int(size * 0.47), (0.15, 0.18, 0.22), 3)
    for hour in range(1, 13):
        angle = np.pi * hour / 6
        x, y = middle[0] + radius * np.sin(angle), middle[1] - radius * np.cos(angle)
        write(image, str(hour), (int(x) - 5, int(y) - 5, 11, 10), (0.1, 0.1, 0.12))
    for length, angle, thick in ((0.24, 5.1, 3), (0.34, 1.3, 2)):
        tip = (int(middle[0] + size * length * np.sin(angle)), int(middle[1] - size * length * np.cos(angle)))
        cv2.line(image, (size // 2, size // 2), tip, (0.75, 0.2, 0.15), thick)
    return image


def write(image: Texture, text: str, area: tuple[int, int, int, int], ink: Color) -> None:
    """Draw `text` as large as `area` (left, top, width, height in texels) allows."""
    left, top, width, height = area
    if width < 4 or height < 3:
        return
    (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
    scale = min(width / max(wide, 1), height / max(tall, 1))
    origin = (left, top + round((height + tall * scale) / 2))
    thickness = 2 if scale > 0.6 else 1
    font = cv2.FONT_HERSHEY_SIMPLEX
    full, smooth = (255,), cv2.LINE_AA
    stamp(image, ink, lambda mask: cv2.putText(mask, text, origin, font, scale, full, thickness, smooth))


def stamp(image: Texture, ink: Color, draw: Callable[[NDArray[np.uint8]], object]) -> None:
    """Blend `ink` into `image` where `draw` fills an 8-bit mask: OpenCV smooths edges in 8 bits only."""
    mask = np.zeros(image.shape[:2], np.uint8)
    draw(mask)
    cover = mask[..., None].astype(np.float32) / 255
    image += cover * (np.asarray(ink, np.float32) - image)


def _shape(rng: Generator, image: Texture, ink: Color) -> None:
    """One random disc, ring, polygon, bar or row of dots."""
    height, width = image.shape[:2]
    center = (int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.05, 0.75) * height))
    size = int(rng.uniform(0.08, 0.26) * width)
    kind = int(rng.integers(5))
    if kind <= 1:
        thickness = -1 if kind == 0 else max(size // 4, 2)
        stamp(image, ink, lambda mask: cv2.circle(mask, center, size, (255,), thickness, cv2.LINE_AA))
    elif kind == 2:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
        corners = (np.array(center) + size * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.int32)
        stamp(image, ink, lambda mask: cv2.fillPoly(mask, [corners], (255,), cv2.LINE_AA))
    elif kind == 3:
        turned = cv2.boxPoints((center, (size * 2.2, size * 0.4), float(rng.uniform(0, 180))))
        bar = turned.astype(np.int32)
        stamp(image, ink, lambda mask: cv2.fillPoly(mask, [bar], (255,), cv2.LINE_AA))
    else:
        stamp(image, ink, lambda mask: _dots(mask, center, size))


def _dots(mask: NDArray[np.uint8], start: tuple[int, int], size: int) -> None:
    for step in range(5):
        at = (start[0] + step * size // 2, start[1])
        cv2.circle(mask, at, max(size // 7, 2), (255,), -1, cv2.LINE_AA)
