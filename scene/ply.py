"""The vertices of a PLY file as a numpy structured array, through plyfile, with one-line errors."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, decoding, quoted
from gsplatloc.utils.io import atomic_path

_MAX_HEADER = 1_000_000  # bytes


def write_vertices(path: Path | str, vertices: np.ndarray) -> None:
    """Write a structured array [N] as a little-endian PLY with one element, `vertex`; atomically."""
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(temporary)


def read_vertices(path: Path | str, wanted: Callable[[str], bool] = lambda name: True) -> np.ndarray:
    """Read the vertex properties whose name is `wanted` from a PLY file, binary or ASCII.

    Returns a structured array [N] in the byte order of the file. Raises GSplatLocError if the file is
    missing, cut short or not a PLY file of scalar vertex properties.
    """
    with decoding("a PLY file with vertices", path, "restore it"):
        _check_counts(Path(path))
        # plyfile reads value by value (minutes for a large map) unless it maps the file into memory.
        document = PlyData.read(Path(path), mmap="r")
        mapped = document["vertex"].data
        left = Path(path).stat().st_size - _header_bytes(Path(path)) - mapped.nbytes
    if not document.text and len(document.elements) == 1 and left >= mapped.dtype.itemsize:
        log(
            f"warning: {path} has {left} bytes after the {len(mapped)} vertices of its header, which are not"
            " read",
            stream=sys.stderr,
        )
    names = [name for name in mapped.dtype.names or () if wanted(name)]
    lists = [name for name in names if mapped.dtype[name].hasobject]
    if lists:
        raise GSplatLocError(
            f"expected scalar vertex properties in {path}, found a list '{quoted(lists[0])}'"
        )
    # Copied, because a mapped array changes, or fails, when the file is written again.
    vertices = np.empty(len(mapped), [(name, mapped.dtype[name]) for name in names])
    for name in names:
        vertices[name] = mapped[name]
    return vertices


def _header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        header = re.match(rb".*?end_header\r?\n?", file.read(_MAX_HEADER), re.DOTALL)
    return 0 if header is None else header.end()


def _check_counts(path: Path) -> None:
    """Raise if the header promises more entries than the file has bytes: memory is allocated for them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_MAX_HEADER)
    if not header.startswith(b"ply"):
        raise ValueError("another kind of file")
    for name, count in re.findall(
        rb"^element +(\S+) +(\d+)", header.partition(b"end_header")[0], re.MULTILINE
    ):
        if len(count) > 18 or int(count) > size:
            raise ValueError(f"{count.decode()} of {name.decode(errors='replace')} in {size} bytes")
