"""The structure-from-motion pseudo ground truth of Brachmann et al., "On the limits of pseudo ground truth in
visual camera re-localisation" (ICCV 2021), for 7-Scenes and 12-Scenes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.download import download_text
from gsplatloc.datasets.upstream import PSEUDO_GROUND_TRUTH
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, quoted

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
    path = f"sfm/{family}/{scene}_{split}.txt"
    text = download_text(
        PSEUDO_GROUND_TRUTH.address(path, options.mirror_address),
        options.archive_path(PSEUDO_GROUND_TRUTH, f"{family}_{scene}_{split}.txt"),
    )
    return dict(_parse(text, path))


def _parse(text: str, source: str) -> Iterator[tuple[str, PosedName]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if len(values) != len(words) - 1 or len(words) != _FIELDS or not np.isfinite(values).all():
            raise GSplatLocError(
                f"expected 'name qw qx qy qz tx ty tz f' on line {number} of {source}, found"
                f" {quoted(repr(line))}: delete the downloaded copy and run again"
            )
        numbers = torch.tensor(values, dtype=torch.float64)
        cam_from_world = se3.from_rotation_translation(
            se3.rotation_from_quaternion(numbers[:4]), numbers[4:7]
        )
        yield words[0], PosedName(se3.inverse(cam_from_world).numpy(), values[7])
