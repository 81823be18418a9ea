"""`.compressed.ply` (SuperSplat, PlayCanvas): chunks of 256 Gaussians, quantised between the chunk's bounds.

Reading is left to the library gaussforge. Its writer (version 0.6) stores the three channels of a coefficient
side by side, where the format, and its own reader, have all coefficients of a channel.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.formats.gaussforge import Converted
from gsplatloc.scene.formats.seen_colours import StoredHarmonics
from gsplatloc.scene.formats.values import capped, smaller_components, unit_quaternions
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00
from gsplatloc.utils.io import atomic_path

_CHUNK = 256  # Gaussians
_BITS = (11, 10, 11)  # of the components of positions and of logarithmic scales
_LARGEST = 20.0  # logarithm of a scale, as viewers clamp it
_STEP = 1 / 32  # of higher harmonics: 256 levels over [-4, 4], of which none is zero
_BOUNDS = [
    f"{end}_{name}"
    for names in ("x y z", "scale_x scale_y scale_z", "r g b")
    for end in ("min", "max")
    for name in names.split()
]
_PACKED = [f"packed_{name}" for name in ("position", "rotation", "scale", "color")]


class CompressedPly(Converted):
    """Read by the library."""

    name, suffix, library_name = "compressed_ply", ".compressed.ply", "compressed.ply"
    changes = (
        "Gaussians are reordered and quantised (positions to 1/2048 (x, z) and 1/1024 (y) of their chunk, "
        "logarithms of sizes to 11, 10 and 11 bits of its range, colours to 8 bits)"
    )

    def matches(self, path: Path, head: bytes) -> bool:
        return head.startswith(b"ply") and b"packed_position" in head

    def stored_harmonics(self, sh: Tensor) -> StoredHarmonics:
        levels = ((sh[:, 1:] / _STEP).floor() + 0.5).clamp(-127.5, 127.5)
        return StoredHarmonics(torch.cat([sh[:, :1], _STEP * levels], 1), slice(0, 1))

    def write(self, path: Path, gaussians: Gaussians) -> None:
        gaussians = capped(gaussians)
        gaussians = gaussians.select(torch.from_numpy(_chunk_order(gaussians.means.numpy())))
        scales = gaussians.log_scales.double().clamp(-_LARGEST, _LARGEST).numpy()
        means, position_bounds = _within_chunks(gaussians.means.double().numpy())
        sizes, scale_bounds = _within_chunks(scales)
        colours, colour_bounds = _within_chunks(gaussians.sh[:, 0].double().numpy() * Y_00 + 0.5)
        rgba = np.column_stack([colours, gaussians.opacities.double().numpy()])
        bounds = np.concatenate([position_bounds, scale_bounds, colour_bounds], 1).astype("<f4")
        rotations = _packed_rotations(unit_quaternions(gaussians))
        packed = [_packed(means, _BITS), rotations, _packed(sizes, _BITS), _packed(rgba, (8, 8, 8, 8))]
        levels = (gaussians.sh[:, 1:].transpose(1, 2).flatten(1) / _STEP).floor() + 128  # channel by channel
        harmonics = levels.clamp(0, 255).byte().numpy()
        with atomic_path(path) as temporary:
            parts = [bounds.tobytes(), np.stack(packed, 1).astype("<u4").tobytes(), harmonics.tobytes()]
            temporary.write_bytes(_header(len(bounds), *harmonics.shape) + b"".join(parts))


def _header(chunks: int, count: int, coefficients: int) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {chunks}"]
    lines += [f"property float {name}" for name in _BOUNDS]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in _PACKED)]
    if coefficients:
        lines += [f"element sh {count}"]
        lines += [f"property uchar f_rest_{number}" for number in range(coefficients)]
    return "\n".join([*lines, "end_header", ""]).encode()


def _chunk_order(means: np.ndarray) -> np.ndarray:
    """The order [N] of means [N, 3] in which the chunks are small boxes.

    They are halved at the median of their longest side until each is a chunk. Along a Z-order curve positions
    are rounded more coarsely, because few far Gaussians make a chunk large: 1 to 1.7 dB.
    """
    chunks, halves = [], [np.arange(len(means))]
    while halves:
        part = halves.pop()
        if len(part) <= _CHUNK:
            chunks.append(part)
            continue
        axis = np.ptp(means[part], axis=0).argmax()
        part = part[means[part, axis].argsort(kind="stable")]
        middle = _CHUNK * max(1, -(-len(part) // _CHUNK) // 2)
        halves += [part[middle:], part[:middle]]
    return np.concatenate(chunks)


def _within_chunks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [N, 3] between the bounds of their chunk, in [0, 1], and bounds [chunks, 6]: least, greatest."""
    starts = np.arange(0, len(values), _CHUNK)
    least, most = (
        extreme.reduceat(values, starts).astype(np.float32) for extreme in (np.minimum, np.maximum)
    )
    low, high = (np.repeat(end.astype(np.float64), _CHUNK, 0)[: len(values)] for end in (least, most))
    return np.clip((values - low) / np.maximum(high - low, 1e-30), 0, 1), np.concatenate([least, most], 1)


def _packed(values: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Values in [0, 1], [N, C], as one integer [N] each, the first component in the highest bits."""
    total = np.zeros(len(values), np.uint64)
    for column, width in zip(values.T, bits):
        total = (total << np.uint64(width)) | np.round(column * (2**width - 1)).astype(np.uint64)
    return total


def _packed_rotations(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions wxyz [N, 4]: which component is largest, 2 bits, and the others in order, 10 bits each."""
    largest, others = smaller_components(quaternions)
    return (largest.astype(np.uint64) << np.uint64(30)) | _packed(others, (10, 10, 10))
