"""Reading VisualSfM's .nvm files (Wu, 2011): focal lengths and points.

The format, after a first line `NVM_V3`: the number of cameras; a line for each, `name focal qw qx qy qz cx cy
cz radial 0`; the number of points; a line for each, `x y z r g b m` and m observations. Blank lines separate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from gsplatloc.scene.cameras import SparsePoints
from gsplatloc.utils.errors import GSplatLocError, decoding


@dataclass(frozen=True)
class Reconstruction:
    """Focal lengths and points of an .nvm file."""

    focal_lengths: dict[str, float]  # pixels at full size, by image name without its suffix
    points: SparsePoints

    def focal_length(self, name: str) -> float:
        """The focal length in pixels of an image; the .nvm lists .jpg files, the data set holds .png."""
        stem = _without_suffix(name)
        if stem not in self.focal_lengths:
            raise GSplatLocError(
                f"expected {stem} in reconstruction.nvm, found no such image: delete the archive"
            )
        return self.focal_lengths[stem]


def read_nvm(path: Path) -> Reconstruction:
    """Read an .nvm file line by line, without its observations, which are most of it."""
    with decoding("a VisualSfM file", path, "delete the archive"), path.open(encoding="utf-8") as file:
        lines = (line for line in file if line.strip())
        if not next(lines).startswith("NVM_V3"):
            raise ValueError("no NVM_V3 in the first line")
        focal_lengths = dict([_read_camera(next(lines)) for _ in range(int(next(lines)))])
        return Reconstruction(focal_lengths, _read_points(lines, int(next(lines))))


def _read_camera(line: str) -> tuple[str, float]:
    name, focal_length = line.split()[:2]
    return _without_suffix(name), float(focal_length)


def _read_points(lines: Iterator[str], count: int) -> SparsePoints:
    # A list, because the count in a damaged file may be more than memory holds.
    rows = [[float(word) for word in next(lines).split(maxsplit=6)[:6]] for _ in range(count)]
    numbers = np.array(rows, np.float64).reshape(count, 6)
    return SparsePoints(numbers[:, :3].copy(), numbers[:, 3:].clip(0, 255).astype(np.uint8))


def _without_suffix(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
