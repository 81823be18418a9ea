"""`.splat` (antimatter15): 32 bytes per Gaussian without view dependence."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.formats import broken
from gsplatloc.scene.formats.seen_colours import StoredHarmonics
from gsplatloc.scene.formats.values import (
    capped,
    log_scales,
    logits,
    rgba_bytes,
    sh_of_rgb,
    splat_of_arrays,
    unit_quaternions,
)  # fmt: skip
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.io import atomic_path

_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quaternion", "u1", 4)])


class Splat:
    """Activated scales as floats; colours, opacity and quaternion (128 is zero) as bytes."""

    name, suffix = "splat", ".splat"
    changes = "view-dependent colour is left out; colours, opacities and rotations have 8 bits"

    def matches(self, path: Path, head: bytes) -> bool:
        return path.suffix.lower() == self.suffix

    def read(self, path: Path) -> Gaussians:
        size = path.stat().st_size
        if size == 0 or size % _ROW.itemsize:
            raise broken(path, f"{size} bytes, no multiple of {_ROW.itemsize}")
        rows = np.fromfile(path, _ROW)
        rgba = rows["rgba"] / 255
        quaternions = (rows["quaternion"] - 128.0) / 128
        base, opacities = sh_of_rgb(rgba[:, :3]), logits(rgba[:, 3])
        return splat_of_arrays(rows["mean"], log_scales(rows["scale"]), quaternions, opacities, base)

    def stored_harmonics(self, sh: Tensor) -> StoredHarmonics:
        return StoredHarmonics(torch.cat([sh[:, :1], torch.zeros_like(sh[:, 1:])], 1), slice(0, 1))

    def write(self, path: Path, gaussians: Gaussians) -> None:
        gaussians = capped(gaussians, 1)
        rows = np.empty(len(gaussians), _ROW)
        rows["mean"], rows["scale"] = gaussians.means.numpy(), gaussians.scales.numpy()
        rows["rgba"] = rgba_bytes(gaussians)
        rows["quaternion"] = np.clip(np.round(unit_quaternions(gaussians) * 128 + 128), 0, 255)
        with atomic_path(path) as temporary:
            rows.tofile(temporary)
