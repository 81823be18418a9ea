"""The command line of gsplatloc from-splat."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.mapping.options import FromSplatOptions, VirtualCameraOptions
from gsplatloc.scene.map_folder import require_splat
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_folder, require_path

EXAMPLES = (
    "gsplatloc from-splat scene.spz -m my_map",
    "gsplatloc from-splat scene.ply -m my_map --cameras transforms.json",
    "gsplatloc from-splat scene.ply -m my_map --distance 0 0 0 1.2 0 0.4 3.5",
)


@dataclass(frozen=True)
class FromSplatArguments:
    """The options of gsplatloc from-splat."""

    splat: tyro.conf.Positional[Path]
    """splat file of any format, or folder of a map"""
    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map that is written"""
    cameras: Path | None = None
    """poses of the photographs: cameras.json, transforms.json, COLMAP folder; unset = found in free space"""
    scale: float | None = None
    """factor of all lengths: metres per unit of the splat, for poses in metres; unset = 1"""
    distance: tuple[float, float, float, float, float, float, float] | None = None
    """instead of a scale: two points of the splat, x y z x y z, and the metres between them"""
    similarity: Path | None = None
    """instead: text file of four rows, the similarity transform from the splat's coordinates to yours"""
    virtual: tyro.conf.OmitArgPrefixes[VirtualCameraOptions] = field(default_factory=VirtualCameraOptions)
    splats: tyro.conf.OmitArgPrefixes[FromSplatOptions] = field(default_factory=FromSplatOptions)

    def __post_init__(self) -> None:
        given = {"--scale": self.scale, "--distance": self.distance, "--similarity": self.similarity}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise GSplatLocError(
                f"expected one statement of the scale, found {' and '.join(named)}: leave one out"
            )
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise GSplatLocError(f"expected a positive --scale, found {self.scale}: correct it")
        if self.distance is not None and not 0 < _scale(self.distance) < math.inf:
            raise GSplatLocError(
                f"expected two points and a positive --distance, found {self.distance}: correct it"
            )

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_splat(self.splat)
        require_path(self.cameras, "cameras", "--cameras")
        require_path(self.similarity, "a similarity transform", "--similarity")
        require_output_folder(self.model_path, "--model_path", [self.splat, self.cameras])

    def factor(self) -> float:
        """New units per unit of the splat, where no similarity transform is given."""
        return (self.scale or 1.0) if self.distance is None else _scale(self.distance)


def _scale(distance: tuple[float, ...]) -> float:
    """Metres per unit, of two points and the metres between them; nan for one point twice."""
    length = math.dist(distance[:3], distance[3:6])
    return distance[6] / length if length else math.nan


def parse_from_splat_arguments(argv: Sequence[str] | None = None) -> FromSplatArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(FromSplatArguments, "Make a map of a splat without photographs.", argv, examples=EXAMPLES)
