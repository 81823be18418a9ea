"""Pose files in the format of the 7-Scenes pseudo ground truth (Brachmann et al., "On the Limits of Pseudo
Ground Truth", ICCV 2021): one line per image, `name qw qx qy qz tx ty tz [focal]`, cam_from_world.

Columns are separated by spaces, so a space in a name is written as %20.
"""

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import torch
from torch import Tensor

from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_text, write_text

_POSE_NUMBERS = 7  # four of the quaternion, three of the translation


@dataclass(frozen=True)
class PoseRecord:
    """One line of a pose file."""

    name: str
    cam_from_world: Tensor  # [4, 4] float64
    focal: float | None = None  # pixels; None if the line states none


def read_poses(path: Path | str) -> dict[str, PoseRecord]:
    """Pose records by name.

    The ninth column is a focal length only if it is the last column: some published estimates have error
    figures there, which are not read. Blank lines and lines that start with # are skipped. Poses that are not
    finite, as of images that an estimator failed on, are left out, with a warning.
    """
    lines = read_text(path, "a pose file").splitlines()
    numbered = [(number, line.split()) for number, line in enumerate(lines, start=1)]
    kept = [(number, words) for number, words in numbered if words and not words[0].startswith("#")]
    rows = [(words, _numbers(words, f"{path}, line {number}")) for number, words in kept]
    finite = [(words, row) for words, row in rows if np.isfinite(row[:_POSE_NUMBERS]).all()]
    if len(finite) < len(rows):
        lost = f"{len(rows) - len(finite)} of {len(rows)} poses in {path}"
        log(f"warning: {lost} are not finite, and are left out", stream=sys.stderr)
    numbers = [row for _, row in finite]
    poses = _matrices(torch.tensor([row[:_POSE_NUMBERS] for row in numbers], dtype=torch.float64))
    records = [
        PoseRecord(
            unquote(words[0], errors="surrogateescape"),
            pose,
            row[-1] if len(row) == _POSE_NUMBERS + 1 else None,
        )
        for (words, row), pose in zip(finite, poses)
    ]
    found: dict[str, PoseRecord] = {}
    for record in records:
        known = found.setdefault(record.name, record)
        if not torch.equal(known.cam_from_world, record.cam_from_world):
            raise GSplatLocError(
                f"expected one pose of {quoted(record.name)} in {path}, found two that differ: remove one"
            )
    return found


def write_poses(path: Path | str, records: Iterable[PoseRecord]) -> None:
    """Write pose records atomically; an unknown focal length is left out."""
    write_text(path, "".join(_format(record) + "\n" for record in records))


def _numbers(words: list[str], where: str) -> list[float]:
    """The numbers after the name: a pose, and any further ones."""
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as error:
        raise GSplatLocError(
            f"expected numbers in {where}, found {quoted(error)}: correct the line"
        ) from None
    if len(numbers) < _POSE_NUMBERS:
        raise GSplatLocError(
            f"expected `name qw qx qy qz tx ty tz [focal]` in {where}, found {len(words)} columns"
        )
    if np.isfinite(numbers[:_POSE_NUMBERS]).all() and not 1e-6 < math.hypot(*numbers[:4]) < 1e6:
        raise GSplatLocError(f"expected a non-zero quaternion in {where}, found another one: remove the line")
    return numbers


def _matrices(numbers: Tensor) -> Tensor:
    """[N, 7] -> [N, 4, 4]"""
    numbers = numbers.reshape(-1, _POSE_NUMBERS)
    return se3.from_rotation_translation(se3.rotation_from_quaternion(numbers[:, :4]), numbers[:, 4:])


def _format(record: PoseRecord) -> str:
    # Bytes of a file name that are not UTF-8 are lone surrogates in Python.
    name = re.sub(
        r"[\s%\ufeff\udc80-\udcff]|^#",
        lambda match: quote(match[0], "", errors="surrogateescape"),
        record.name,
    )
    quaternion = se3.quaternion_from_rotation(record.cam_from_world[:3, :3])
    numbers = torch.cat([quaternion, record.cam_from_world[:3, 3]]).tolist()
    if record.focal is not None:
        numbers.append(record.focal)
    return " ".join([name, *(repr(number).removesuffix(".0") for number in numbers)])
