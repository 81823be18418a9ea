"""Trajectories in the file format of the TUM RGB-D benchmark, which evo and most SLAM systems read.

Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems" (IROS 2012). A line is `timestamp tx ty
tz qx qy qz qw`: seconds, then the pose of the camera in the world in metres (`world_from_cam`). In memory
poses are `cam_from_world`.
"""

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import number_words, read_text, write_text

_UNIT_TOLERANCE = 0.1  # of a quaternion's length: files have few decimals, other columns have any number
_KITTI_COLUMNS = 12
_UNITS = (1e9, 1e6, 1e3)  # per second, of times since 1970, which in seconds are of this order:
_SINCE_1970 = (1e8, 1e10)  # 1973 to 2286
_COLUMNS = "timestamp tx ty tz qx qy qz qw"
_HEADER = f"# camera in the world\n# {_COLUMNS}\n"
_STAMP_NAMES = frozenset({"timestamp", "time", "stamp", "t", "time_s", "timestamp_ns", "timestamps"})
_WXYZ = [6, 3, 4, 5]  # columns of a line, without the timestamp, that make our quaternion wxyz
_XYZW = [1, 2, 3, 0]  # components of our quaternion in the order of the file


@dataclass(frozen=True)
class Trajectory:
    """Poses with timestamps."""

    timestamps: np.ndarray  # [N] float64 seconds, ascending
    cam_from_world: Tensor  # [N, 4, 4] float64

    def __len__(self) -> int:
        return len(self.timestamps)

    def select(self, index: np.ndarray) -> "Trajectory":
        """The poses at `index`, in that order."""
        return Trajectory(self.timestamps[index], self.cam_from_world[torch.from_numpy(index)])


def read_tum_trajectory(path: Path | str) -> Trajectory:
    """The trajectory in a file, in order of time; raises `GSplatLocError` if the file holds none.

    Blank lines and lines that start with # are skipped; commas separate as spaces do. Poses that are not
    finite, as trackers write them where they were lost, are left out, with a warning. If a comment names the
    columns, as EuRoC's do, the quaternion may be wxyz.
    """
    rows = [_numbers(words, where) for words, where in read_stamped_lines(path)]
    finite = [row for row in rows if np.isfinite(row).all()]
    if not finite:
        found = f"{len(rows)} that are not finite" if rows else "none"
        raise GSplatLocError(f"expected lines `{_COLUMNS}` in {path}, found {found}: check the file")
    if len(finite) < len(rows):
        lost = f"{len(rows) - len(finite)} of {len(rows)} poses in {path}"
        log(f"warning: {lost} are not finite, and are left out", stream=sys.stderr)
    table = np.array(finite)
    if quaternion_order(path) == "wxyz":
        table = table[:, [0, 1, 2, 3, 5, 6, 7, 4]]
    table[:, 0] = in_seconds(table[:, 0])
    table = table[np.argsort(table[:, 0], kind="stable")]
    again = np.flatnonzero(np.diff(table[:, 0]) == 0)
    if (table[again] != table[again + 1]).any():
        repeated = float(table[again[0], 0])
        log(
            f"warning: {path} has several poses at the time {repeated!r}: the first is used",
            stream=sys.stderr,
        )
    table = np.delete(table, again + 1, axis=0)
    values = torch.from_numpy(table[:, 1:])
    rotation = se3.rotation_from_quaternion(values[:, _WXYZ])
    return Trajectory(table[:, 0].copy(), se3.inverse(se3.from_rotation_translation(rotation, values[:, :3])))


def write_tum_trajectory(path: Path | str, trajectory: Trajectory) -> None:
    """Write a trajectory, atomically."""
    world_from_cam = se3.inverse(trajectory.cam_from_world.double().cpu())
    quaternions = se3.quaternion_from_rotation(world_from_cam[:, :3, :3])[:, _XYZW]
    numbers = torch.cat([world_from_cam[:, :3, 3], quaternions], 1).tolist()
    lines = [
        f"{float(stamp)!r} " + " ".join(f"{number!r}" for number in row) + "\n"
        for stamp, row in zip(trajectory.timestamps, numbers)
    ]
    write_text(path, _HEADER + "".join(lines))


def associate(first: np.ndarray, second: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices [M], [M] of pairs of timestamps [N], [K] at most `tolerance` seconds apart, in order of time.

    The closest pairs are formed first, and every timestamp is in one pair at most.
    """
    order = np.argsort(second, kind="stable")
    ordered = second[order]
    candidates = np.searchsorted(ordered, first)[:, None] + np.arange(-2, 2)  # two neighbours on either side
    index, column = np.nonzero((candidates >= 0) & (candidates < len(second)))
    partner = order[candidates[index, column]]
    difference = np.abs(first[index] - second[partner])
    taken: dict[int, int] = {}
    used: set[int] = set()
    for pair in np.argsort(difference, kind="stable"):
        one, other = int(index[pair]), int(partner[pair])
        if difference[pair] <= tolerance and one not in taken and other not in used:
            taken[one] = other
            used.add(other)
    found = np.array(sorted(taken, key=lambda one: first[one]), np.int64)
    return found, np.array([taken[int(one)] for one in found], np.int64)


def read_stamped_lines(path: Path | str) -> list[tuple[list[str], str]]:
    """The words of every line of a TUM file that is no comment, with `FILE, line N` for error messages.

    A first line of names of columns, as tables have it, is a comment, too.
    """
    lines = read_text(path).splitlines()
    split = [(number_words(line), f"{path}, line {n}") for n, line in enumerate(lines, start=1)]
    rows = [(words, where) for words, where in split if words and not words[0].startswith("#")]
    return rows[1:] if rows and names_columns(rows[0][0]) else rows


def names_columns(words: list[str]) -> bool:
    """Whether the words of a line are names of columns, not numbers."""
    return bool(words) and words[0].lower().strip('"') in _STAMP_NAMES


def in_seconds(stamps: np.ndarray) -> np.ndarray:
    """Times [N] since 1970 in seconds; ROS and EuRoC write them in nanoseconds, others in milliseconds."""
    middle = float(np.median(np.abs(stamps))) if len(stamps) else 0.0
    least, most = _SINCE_1970
    return stamps / next((unit for unit in _UNITS if least < middle / unit < most), 1.0)


def quaternion_order(path: Path | str) -> str | None:
    """wxyz or xyzw, if a comment names the columns of the quaternion: `q_RS_w [], q_RS_x [], ...`."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    comments = (line for line in lines if line.lstrip().startswith("#") or names_columns(number_words(line)))
    orders = ("".join(re.findall(r"\bq\w*?_?([wxyz])\b", line.lower())) for line in comments)
    return next((found[0] for found in (re.search("wxyz|xyzw", order) for order in orders) if found), None)


def finite_number(word: str) -> float:
    """The number in `word`; ValueError if it is none, or not finite."""
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is not finite")
    return number


def _numbers(words: list[str], where: str) -> list[float]:
    if len(words) == _KITTI_COLUMNS:
        raise GSplatLocError(
            f"expected `{_COLUMNS}` in {where}, found {len(words)} columns, as of KITTI's matrices: convert"
            " them with `evo_traj kitti`"
        )
    try:
        numbers = [float(word) for word in words[:8]]
    except ValueError as error:
        raise GSplatLocError(
            f"expected `{_COLUMNS}` in {where}, found {quoted(error)}: correct the line"
        ) from None
    if len(numbers) < 8:
        raise GSplatLocError(f"expected `{_COLUMNS}` in {where}, found {len(numbers)} columns: correct it")
    if np.isfinite(numbers).all() and abs(math.hypot(*numbers[4:]) - 1) > _UNIT_TOLERANCE:
        raise GSplatLocError(
            f"expected a unit quaternion in {where}, found {quoted(' '.join(words))}: correct it"
        )
    return numbers
