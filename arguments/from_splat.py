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
    scale: float = 1.0
    """factor of all lengths: metres per unit of the splat, for poses in metres"""
    virtual: tyro.conf.OmitArgPrefixes[VirtualCameraOptions] = field(default_factory=VirtualCameraOptions)
    splats: tyro.conf.OmitArgPrefixes[FromSplatOptions] = field(default_factory=FromSplatOptions)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise GSplatLocError(f"expected a positive --scale, found {self.scale}: correct it")

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_splat(self.splat)
        require_path(self.cameras, "cameras", "--cameras")
        require_output_folder(self.model_path, "--model_path", [self.splat, self.cameras])


def parse_from_splat_arguments(argv: Sequence[str] | None = None) -> FromSplatArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(FromSplatArguments, "Make a map of a splat without photographs.", argv, examples=EXAMPLES)
