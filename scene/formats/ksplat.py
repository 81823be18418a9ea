"""`.ksplat` (mkkellogg's GaussianSplats3D): sections of buckets, compressed at one of three levels."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.formats import broken
from gsplatloc.scene.formats.seen_colours import StoredHarmonics
from gsplatloc.scene.formats.values import (
    capped,
    joined,
    log_scales,
    logits,
    rgb_bytes,
    rgba_bytes,
    sh_of_rgb,
    splat_of_arrays,
    unit_quaternions,
)  # fmt: skip
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.io import atomic_path

_HEADER, _SECTION = 4096, 1024  # bytes
_COUNTS = (0, 9, 24, 45)  # numbers of higher degrees, per Gaussian
_LEVELS = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))  # centres, shape, harmonics
_MAIN = np.dtype({
    "names": ["major", "minor", "sections", "used_sections", "most", "count", "level", "least_sh", "most_sh"],
    "formats": ["u1", "u1", "<u4", "<u4", "<u4", "<u4", "<u2", "<f4", "<f4"],
    "offsets": [0, 1, 4, 8, 12, 16, 20, 36, 40], "itemsize": _HEADER,
})  # fmt: skip
_PART = np.dtype({
    "names": ["count", "most", "capacity", "buckets", "block", "bucket_bytes", "range", "bytes", "full",
              "partial", "degree"],
    "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u2", "<u4", "<u4", "<u4", "<u4", "<u2"],
    "offsets": [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40], "itemsize": _SECTION,
})  # fmt: skip


class Ksplat:
    """Read at every level of compression; written without compression."""

    name, suffix = "ksplat", ".ksplat"
    changes = "harmonics of degree 3 are left out; colours and opacities have 8 bits"

    def matches(self, path: Path, head: bytes) -> bool:
        return path.suffix.lower() == self.suffix

    def read(self, path: Path) -> Gaussians:
        data = path.read_bytes()
        if len(data) < _HEADER:
            raise broken(path, f"{len(data)} bytes")
        main = np.frombuffer(data, _MAIN, 1)[0]
        start = _HEADER + _SECTION * int(main["sections"])
        if main["major"] != 0 or main["level"] > 2 or start > len(data):
            raise broken(
                path, f"version {main['major']}, compression {main['level']}, {main['sections']} sections"
            )
        parts, blocks = np.frombuffer(data, _PART, int(main["sections"]), _HEADER), []
        for part in parts:
            if part["degree"] >= len(_COUNTS):
                raise broken(path, f"harmonics of degree {part['degree']}")
            row = _row(int(main["level"]), int(part["degree"]))
            table = 4 * int(part["partial"]), int(part["bucket_bytes"]) * int(part["buckets"])
            rows_at = start + sum(table)
            end = rows_at + row.itemsize * int(part["most"])
            if end > len(data) or part["count"] > part["most"]:
                raise broken(path, f"{len(data)} bytes, {part['count']} Gaussians up to byte {end}")
            rows = np.frombuffer(data, row, int(part["count"]), rows_at)
            blocks.append(_section(rows, main, part, data[start:rows_at], path))
            start = end
        if not any(len(block) for block in blocks):
            raise broken(path, "no Gaussians")
        return joined(blocks)

    def stored_harmonics(self, sh: Tensor) -> StoredHarmonics:
        kept = torch.zeros_like(sh)
        kept[:, :9] = sh[:, :9]
        kept[:, 0] = torch.from_numpy(sh_of_rgb(rgb_bytes(sh[:, 0]) / 255)).to(sh)
        return StoredHarmonics(kept, slice(1, min(9, sh.shape[1])))

    def write(self, path: Path, gaussians: Gaussians) -> None:
        gaussians = capped(gaussians, 9)
        degree, count = gaussians.sh_degree, len(gaussians)
        main, part, rows = np.zeros(1, _MAIN), np.zeros(1, _PART), np.empty(count, _row(0, degree))
        values = {"minor": 1, "sections": 1, "used_sections": 1, "most": count, "count": count}
        for name, value in values.items():
            main[name] = value
        main["least_sh"], main["most_sh"] = -1.5, 1.5
        part["count"] = part["most"] = count
        part["bytes"], part["degree"] = rows.nbytes, degree
        rows["center"], rows["scale"] = gaussians.means.numpy(), gaussians.scales.numpy()
        rows["quaternion"], rows["rgba"] = unit_quaternions(gaussians), rgba_bytes(gaussians)
        rows["sh"] = (
            gaussians.sh[:, 1:].transpose(1, 2).reshape(count, -1).numpy()[:, np.argsort(_order(degree))]
        )
        with atomic_path(path) as temporary:
            temporary.write_bytes(main.tobytes() + part.tobytes() + rows.tobytes())


def _row(level: int, degree: int) -> np.dtype:
    center, shape, harmonics = _LEVELS[level]
    return np.dtype([
        ("center", center, 3), ("scale", shape, 3), ("quaternion", shape, 4), ("rgba", "u1", 4),
        ("sh", harmonics, _COUNTS[degree]),
    ])  # fmt: skip


def _order(degree: int) -> np.ndarray:
    """Places of coefficients, channel by channel; stored are the degrees in turn, in each the channels."""
    sizes = [2 * one + 1 for one in range(1, degree + 1)]
    starts = np.cumsum([0, *sizes])
    places = [
        3 * starts[one] + channel * size + np.arange(size)
        for channel in range(3)
        for one, size in enumerate(sizes)
    ]
    return np.concatenate(places) if places else np.zeros(0, int)


def _section(rows: np.ndarray, main: np.void, part: np.void, table: bytes, path: Path) -> Gaussians:
    """The Gaussians of one section; `table` holds the sizes of partly filled buckets, then their centres."""
    means = rows["center"].astype(np.float64)
    if main["level"]:
        sizes = np.frombuffer(table, "<u4", int(part["partial"]))
        centers = np.frombuffer(table[sizes.nbytes :], "<f4").reshape(-1, int(part["bucket_bytes"]) // 4)
        filled = np.concatenate([np.full(int(part["full"]), part["capacity"]), sizes])
        if len(filled) > len(centers) or filled.sum(dtype=np.float64) < len(rows) or centers.shape[1] < 3:
            raise broken(path, f"{len(rows)} Gaussians in {len(centers)} buckets")
        bucket = np.searchsorted(np.cumsum(filled, dtype=np.int64), np.arange(len(rows)), side="right")
        levels = float(part["range"]) or 32767.0
        means = (means - levels) * (float(part["block"]) / 2 / levels) + centers[bucket, :3]
    sh: np.ndarray = rows["sh"].astype(np.float32)
    if main["level"] == 2:
        least, most = (main["least_sh"] or -1.5), (main["most_sh"] or 1.5)
        sh = least + sh / 255 * (most - least)
    rest = (
        sh[:, _order(int(part["degree"]))]
        .reshape(len(rows), 3, _COUNTS[int(part["degree"])] // 3)
        .transpose(0, 2, 1)
    )
    rgba = rows["rgba"] / 255
    scales, quaternions = log_scales(rows["scale"]), rows["quaternion"].astype(np.float32)
    return splat_of_arrays(means, scales, quaternions, logits(rgba[:, 3]), sh_of_rgb(rgba[:, :3]), rest)
