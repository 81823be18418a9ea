"""glTF with KHR_gaussian_splatting, as a `.glb`: activated values, quaternions xyzw, +Y up."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsplatloc.scene.formats import broken
from gsplatloc.scene.formats.values import (
    capped,
    joined,
    log_scales,
    logits,
    rgba_bytes,
    sh_of_rgb,
    splat_of_arrays,
    unit_quaternions,
    with_axes,
)  # fmt: skip
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.similarity import Similarity
from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.io import atomic_path

_EXTENSION = "KHR_gaussian_splatting"
_JSON, _BINARY = 0x4E4F534A, 0x004E4942  # kinds of chunks
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_AXES = (-1, -1, 1)  # glTF's axes (left, up, front) in those of .ply (right, down, front)
_ERRORS = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    struct.error,
    OverflowError,
)
_MAX_DEPTH = 100  # of nodes in nodes
Node = dict[str, Any]


class Glb:
    """Every Gaussian primitive of the scene, moved by its nodes; meshes are left out."""

    name, suffix = "glb", ".glb"
    changes = "scales and opacities are stored activated: equal up to rounding"

    def matches(self, path: Path, head: bytes) -> bool:
        return head.startswith(b"glTF")

    def read(self, path: Path) -> Gaussians:
        try:
            document, binary = _chunks(path.read_bytes())
            parts = [
                Similarity.of_matrix(matrix).gaussians(_primitive(document, binary, primitive, path))
                for mesh, matrix in _placed_meshes(document)
                for primitive in document["meshes"][mesh]["primitives"]
                if _EXTENSION in primitive.get("extensions", {})
            ]
        except _ERRORS as error:
            raise broken(path, error) from None
        if not parts:
            raise broken(path, f"no primitive with {_EXTENSION}")
        return with_axes(joined(parts), _AXES)

    def write(self, path: Path, gaussians: Gaussians) -> None:
        columns = _columns(with_axes(capped(gaussians), _AXES))
        views, accessors, offset = [], [], 0
        for array in columns.values():
            kind = {width: name for name, width in _WIDTHS.items()}[array.shape[1]]
            views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": 34962})
            code = 5121 if array.dtype == np.uint8 else 5126
            accessors.append(
                {"bufferView": len(views) - 1, "componentType": code, "count": len(array), "type": kind}
            )
            offset += array.nbytes
        accessors[0] |= {
            "min": columns["POSITION"].min(0).tolist(),
            "max": columns["POSITION"].max(0).tolist(),
        }
        accessors[1]["normalized"] = True
        document = _document(views, accessors, {name: index for index, name in enumerate(columns)}, offset)
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + offset))
            file.write(struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", offset, _BINARY))
            for array in columns.values():
                file.write(array.tobytes())


def _columns(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Attributes in the order of the file, [N, width] each; every row takes a multiple of four bytes."""
    columns = {
        "POSITION": gaussians.means.numpy(),
        "COLOR_0": rgba_bytes(gaussians),  # for viewers that show points
        f"{_EXTENSION}:ROTATION": np.roll(unit_quaternions(gaussians), -1, 1),
        f"{_EXTENSION}:SCALE": gaussians.log_scales.double().exp().numpy(),
        f"{_EXTENSION}:OPACITY": gaussians.opacities[:, None].numpy(),
    }
    for degree in range(gaussians.sh_degree + 1):
        for order in range(2 * degree + 1):
            name = f"{_EXTENSION}:SH_DEGREE_{degree}_COEF_{order}"
            columns[name] = gaussians.sh[:, degree * degree + order].numpy()
    return {name: array if name == "COLOR_0" else array.astype("<f4") for name, array in columns.items()}


def _document(views: list[Node], accessors: list[Node], attributes: dict[str, int], size: int) -> Node:
    kernel = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {"mode": 0, "attributes": attributes, "extensions": {_EXTENSION: kernel}}
    return {
        "asset": {"version": "2.0", "generator": "gsplatloc"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": size}],
    }


def _chunks(data: bytes) -> tuple[Node, bytes]:
    """The JSON document and the binary buffer of a file."""
    _, version, size = struct.unpack_from("<4sII", data)
    if version != 2 or size > len(data):
        raise ValueError(f"version {version}, {len(data)} of {size} bytes")
    found, place = {}, 12
    while place + 8 <= size:
        length, kind = struct.unpack_from("<II", data, place)
        if place + 8 + length > size:
            raise ValueError(f"a chunk of {length} bytes in a file of {size}")
        found[kind] = data[place + 8 : place + 8 + length]
        place += 8 + length
    return json.loads(found[_JSON]), found.get(_BINARY, b"")


def _placed_meshes(document: Node) -> Iterator[tuple[int, np.ndarray]]:
    """(mesh, world_from_mesh [4, 4]) of every node of the scene with a mesh."""
    nodes = document.get("nodes", [])
    scene = document["scenes"][document.get("scene", 0)] if document.get("scenes") else {}
    todo = [(index, np.eye(4), 0) for index in scene.get("nodes", range(len(nodes)))]
    while todo:
        index, parent, depth = todo.pop()
        if index < 0 or depth > _MAX_DEPTH:
            raise ValueError("nodes within themselves")
        matrix = parent @ _local_matrix(nodes[index])
        if "mesh" in nodes[index]:
            yield nodes[index]["mesh"], matrix
        todo += [(child, matrix, depth + 1) for child in nodes[index].get("children", [])]


def _local_matrix(node: Node) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T  # column-major
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    matrix = np.eye(4)
    rotation = se3.rotation_from_quaternion(torch.tensor([w, x, y, z], dtype=torch.float64)).numpy()
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _primitive(document: Node, binary: bytes, primitive: Node, path: Path) -> Gaussians:
    extension = primitive["extensions"][_EXTENSION]
    if extension.get("extensions"):
        raise ValueError(f"compression by {', '.join(extension['extensions'])}, which is not read")
    if extension.get("colorSpace") == "lin_rec709_display":
        log(f"{path}: colours are linear, and shown as they are", stream=sys.stderr)
    columns = {
        name.removeprefix(f"{_EXTENSION}:"): _accessor(document, binary, document["accessors"][index])
        for name, index in primitive["attributes"].items()
    }
    scales, quaternions = columns["SCALE"], np.roll(columns["ROTATION"], 1, 1)
    # Drafts of the extension stored logarithms; a standard deviation is never negative.
    sizes = scales if (scales < 0).any() else log_scales(scales)
    base = columns.get("SH_DEGREE_0_COEF_0")
    colors = columns["COLOR_0"] if base is None else base
    base = sh_of_rgb(colors[:, :3]) if base is None else base
    rest = [
        columns[f"SH_DEGREE_{degree}_COEF_{order}"]
        for degree in range(1, 4)
        if f"SH_DEGREE_{degree}_COEF_0" in columns
        for order in range(2 * degree + 1)
    ]
    higher = np.stack(rest, 1) if rest else None
    return splat_of_arrays(
        columns["POSITION"], sizes, quaternions, logits(columns["OPACITY"][:, 0], 1e-7), base, higher
    )


def _accessor(document: Node, binary: bytes, accessor: Node) -> np.ndarray:
    """The values [N, width] of an accessor, checked against the size of the buffer."""
    kind, count = np.dtype(_TYPES[accessor["componentType"]]), int(accessor["count"])
    width, view = _WIDTHS[accessor["type"]], document["bufferViews"][accessor["bufferView"]]
    if "sparse" in accessor or view.get("buffer", 0) != 0 or "uri" in document["buffers"][0]:
        raise ValueError("a buffer outside of the file or a sparse accessor, which are not read")
    start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    stride = int(view.get("byteStride") or width * kind.itemsize)
    end = start + (count - 1) * stride + width * kind.itemsize
    if count < 1 or start < 0 or stride < width * kind.itemsize or end > len(binary):
        raise ValueError(f"an accessor up to byte {end} in a buffer of {len(binary)} bytes")
    values = np.ndarray((count, width), kind, binary, start, (stride, kind.itemsize)).astype(np.float32)
    if accessor.get("normalized"):
        values = np.maximum(values / np.iinfo(kind).max, -1)
    return values
