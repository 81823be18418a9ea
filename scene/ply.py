"""The vertices of a PLY file as a numpy structured array, through plyfile, with one-line errors."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path


def write_vertices(path: Path | str, vertices: np.ndarray) -> None:
    """Write a structured array [N] as a little-endian PLY with one element, `vertex`; atomically."""
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(temporary)


def read_vertices(path: Path | str) -> np.ndarray:
    """Read the vertices of a PLY, binary or ASCII, as a structured array [N].

    Raises GSplatLocError where the file is missing, cut short or not a PLY of scalar vertex properties.
    """
    try:
        # Read into memory: a mapped file would change, or fail, when the map is trained again.
        vertices = PlyData.read(Path(path), mmap=False)["vertex"].data
    except FileNotFoundError:
        raise GSplatLocError(f"expected a file {path}, found none: check the path") from None
    except (PlyParseError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise GSplatLocError(
            f"expected a PLY file with vertices, found {error} in {path}: restore it"
        ) from None
    lists = [name for name in vertices.dtype.names or () if vertices.dtype[name].hasobject]
    if lists:
        raise GSplatLocError(f"expected scalar vertex properties in {path}, found a list '{lists[0]}'")
    return vertices
