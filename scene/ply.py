"""The vertices of a PLY file as a numpy structured array: binary of either endianness, or ASCII.

Only what splat and point-cloud files use: one `vertex` element of scalar properties, which comes first.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.errors import GSplatLocError
from utils.io import atomic_path

_SCALARS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"}
_NAMES |= {"f4": "float", "f8": "double"}
_ENDIANNESS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_MAX_HEADER_LINES = 4096  # a header without an end must not make us read a whole file


def write_vertices(path: Path | str, vertices: np.ndarray) -> None:
    """Write a structured array [N] as a little-endian PLY, atomically."""
    dtype = vertices.dtype
    if dtype.names is None:
        raise ValueError("a structured array was expected")
    kinds = [dtype[name].str[1:] for name in dtype.names]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property {_NAMES[kind]} {name}" for name, kind in zip(dtype.names, kinds)]
    little = np.dtype([(name, "<" + kind) for name, kind in zip(dtype.names, kinds)])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode("ascii"))
        vertices.astype(little, copy=False).tofile(file)


def read_vertices(path: Path | str) -> np.ndarray:
    """Read the vertices of a PLY as a structured array [N].

    Raises GSplatLocError where the file is missing, cut short or not a PLY of scalar vertex properties.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            byte_order, count, properties = _read_header(file, path)
            if byte_order == "=":
                return _read_ascii(file, count, properties, path)
            dtype = np.dtype([(name, byte_order + kind) for name, kind in properties])
            data = file.read(count * dtype.itemsize)
    except FileNotFoundError:
        raise GSplatLocError(f"expected a file {path}, found none: check the path") from None
    if len(data) < count * dtype.itemsize:
        found = len(data) // dtype.itemsize
        raise GSplatLocError(f"expected {count} vertices in {path}, found {found}: the file was cut short")
    return np.frombuffer(data, dtype)


def _read_header(file: BinaryIO, path: Path) -> tuple[str, int, list[tuple[str, str]]]:
    """Byte order, number of vertices and (name, kind) of each property."""
    if file.readline(16).strip() != b"ply":
        raise GSplatLocError(f"expected a PLY file, found something else in {path}: pass a .ply")
    byte_order, count, properties, element = "", -1, [], ""
    for _ in range(_MAX_HEADER_LINES):
        words = file.readline(1024).decode("latin-1").split()
        if words[:1] == ["end_header"]:
            break
        if words[:1] == ["format"]:
            byte_order = _ENDIANNESS.get("".join(words[1:2]), "")
        elif words[:1] == ["element"]:
            element = "".join(words[1:2])
            if element == "vertex":
                count = int(words[2]) if len(words) == 3 and words[2].isdecimal() else -1
            elif count < 0:
                raise GSplatLocError(f"expected the vertices first in {path}, found '{element}': rewrite it")
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _SCALARS:
                raise GSplatLocError(
                    f"expected scalar vertex properties in {path}, found '{' '.join(words)}'"
                )
            properties.append((words[2], _SCALARS[words[1]]))
    if not byte_order or count < 0 or not properties:
        raise GSplatLocError(f"expected a PLY header with vertices, found an incomplete one in {path}")
    return byte_order, count, properties


def _read_ascii(file: BinaryIO, count: int, properties: list[tuple[str, str]], path: Path) -> np.ndarray:
    lines = [line.split() for line in file.read().decode("ascii", "replace").splitlines()[:count]]
    if len(lines) < count or any(len(line) < len(properties) for line in lines):
        raise GSplatLocError(f"expected {count} vertices in {path}, found fewer: the file was cut short")
    vertices = np.zeros(count, np.dtype(properties))
    for column, (name, kind) in enumerate(properties):
        values = np.array([line[column] for line in lines])
        vertices[name] = values.astype(np.float64 if kind[0] == "f" else np.int64)
    return vertices
