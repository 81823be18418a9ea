"""The structure-from-motion pseudo ground truth of Brachmann et al., "On the limits of pseudo ground truth in
visual camera re-localisation" (ICCV 2021), for 7-Scenes and 12-Scenes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.download import download
from gsplatloc.datasets.upstream import PSEUDO_GROUND_TRUTH
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_text

_FIELDS = 9  # name, quaternion wxyz, translation, focal length


@dataclass(frozen=True)
class PosedName:
    """A line of the pseudo ground truth."""

    world_from_cam: np.ndarray  # [4, 4] metres
    focal_length: float  # pixels of the image as published


def fetch_pseudo_ground_truth(
    options: SetupOptions, family: str, scene: str, split: str
) -> dict[str, PosedName]:
    """The poses of a split by image name (`seq-01/frame-000000.color.png`); family: 7scenes or 12scenes."""
    address = PSEUDO_GROUND_TRUTH.address(f"sfm/{family}/{scene}_{split}.txt", options.mirror_address)
    copy = options.archive_path(PSEUDO_GROUND_TRUTH, f"{family}_{scene}_{split}.txt")
    return read_pseudo_ground_truth(download(address, copy))


def read_pseudo_ground_truth(path: Path) -> dict[str, PosedName]:
    """The poses of a downloaded file by image name."""
    return dict(_parse(path))


def _parse(path: Path) -> Iterator[tuple[str, PosedName]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if len(values) != _FIELDS - 1 or not np.isfinite(values).all() or not any(values[:4]):
            raise GSplatLocError(
                f"expected 'name qw qx qy qz tx ty tz f' on line {number} of {path}, found"
                f" {quoted(repr(line))}: delete the downloaded copy and run again"
            )
        numbers = torch.tensor(values, dtype=torch.float64)
        cam_from_world = se3.from_rotation_translation(
            se3.rotation_from_quaternion(numbers[:4]), numbers[4:7]
        )
        yield words[0], PosedName(se3.inverse(cam_from_world).numpy(), values[7])
