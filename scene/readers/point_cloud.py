"""Sparse point clouds in .ply files."""

from pathlib import Path

import numpy as np

from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.scene.ply import read_vertices, write_vertices
from gsplatloc.utils.errors import GSplatLocError, quoted

_POSITION = ("x", "y", "z")
_COLOR = ("red", "green", "blue")
_GREY = 128  # colour of clouds without colours


def read_points(path: Path) -> SparsePoints:
    """Points of the `vertex` element of a .ply: x y z and, if it has them, red green blue."""
    vertices = read_vertices(path)
    names = set(vertices.dtype.names or ())
    if not names.issuperset(_POSITION):
        raise GSplatLocError(
            f"expected x, y and z in {path}, found {quoted(sorted(names))}: restore or remove it"
        )
    positions = np.stack([vertices[axis].astype(np.float64) for axis in _POSITION], 1)
    if names.issuperset(_COLOR):
        colors = np.stack([vertices[channel] for channel in _COLOR], 1).astype(np.uint8)
    else:
        colors = np.full(positions.shape, _GREY, np.uint8)
    finite = np.isfinite(positions).all(1)
    return SparsePoints(positions[finite], colors[finite])


def write_points(path: Path, points: SparsePoints) -> None:
    """Write a binary .ply that any viewer opens."""
    fields = [(axis, "f8") for axis in _POSITION] + [(channel, "u1") for channel in _COLOR]
    vertices = np.empty(len(points), dtype=fields)
    for index, (axis, channel) in enumerate(zip(_POSITION, _COLOR)):
        vertices[axis] = points.positions[:, index]
        vertices[channel] = points.colors[:, index]
    write_vertices(path, vertices)
