"""The vertices of a PLY file as a numpy structured array, through plyfile, with one-line errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path


def write_vertices(path: Path | str, vertices: np.ndarray) -> None:
    """Write a structured array [N] as a little-endian PLY with one element, `vertex`; atomically."""
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(temporary)


def read_vertices(path: Path | str, wanted: Callable[[str], bool] = lambda name: True) -> np.ndarray:
    """Read the vertex properties whose name is `wanted` from a PLY file, binary or ASCII.

    Returns a structured array [N] in the byte order of the file. Raises GSplatLocError if the file is
    missing, cut short or not a PLY file of scalar vertex properties.
    """
    try:
        # plyfile reads value by value (minutes for a large map) unless it maps the file into memory.
        mapped = PlyData.read(Path(path), mmap="r")["vertex"].data
    except FileNotFoundError:
        raise GSplatLocError(f"expected a file {path}, found none: check the path") from None
    except (PlyParseError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise GSplatLocError(
            f"expected a PLY file with vertices, found {error} in {path}: restore it"
        ) from None
    names = [name for name in mapped.dtype.names or () if wanted(name)]
    lists = [name for name in names if mapped.dtype[name].hasobject]
    if lists:
        raise GSplatLocError(f"expected scalar vertex properties in {path}, found a list '{lists[0]}'")
    # Copied, because a mapped array changes, or fails, when the file is written again.
    vertices = np.empty(len(mapped), [(name, mapped.dtype[name]) for name in names])
    for name in names:
        vertices[name] = mapped[name]
    return vertices
