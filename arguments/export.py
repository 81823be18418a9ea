"""The command line of gsplatloc export."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.scene.formats import SPLAT_FORMATS, splat_format
from gsplatloc.scene.map_folder import require_splat
from gsplatloc.scene.splat_filter import SplatFilter
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_file, require_output_folder


@dataclass(frozen=True)
class ExportArguments:
    """The options of gsplatloc export."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of a map, or any splat file"""
    format: str | None = None
    """format of the file, see FORMATS; unset = that of the name of --output, else ply"""
    output: Path | None = None
    """file to write; unset = MODEL_PATH/export/splat.SUFFIX"""
    map: Path | None = None
    """folder to write a small map to (tiles, too), instead of a splat: landmarks and lm localize in it"""
    iteration: int | None = None
    """iteration of the map; unset = the latest"""
    filter: tyro.conf.OmitArgPrefixes[SplatFilter] = field(default_factory=SplatFilter)

    def __post_init__(self) -> None:
        if self.map is not None and (self.format or self.output):
            raise GSplatLocError("expected --map alone, found --format or --output with it: pass one of them")

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path or format: before anything is loaded."""
        require_splat(self.model_path)
        require_output_folder(self.map, "--map", [self.model_path])
        if self.map is None:
            require_output_file(self.path(), "--output")

    def format_name(self) -> str:
        """The name in `SPLAT_FORMATS`; raises `GSplatLocError` for another one."""
        if self.format is None:
            return "ply" if self.output is None else splat_format(self.output)
        return SPLAT_FORMATS[self.format.removeprefix(".").replace(".", "_")].name

    def path(self) -> Path:
        """The file to write."""
        folder = self.model_path if self.model_path.is_dir() else self.model_path.parent
        return self.output or folder / "export" / f"splat{SPLAT_FORMATS[self.format_name()].make().suffix}"


def parse_export_arguments(argv: Sequence[str] | None = None) -> ExportArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    formats = ", ".join(f"{entry.name} ({entry.help})" for entry in SPLAT_FORMATS.entries())
    return parse(
        ExportArguments,
        f"Write the Gaussians of a map for other programs. FORMATS: {formats}.",
        argv,
        examples=("gsplatloc export -m my_map --format spz", "gsplatloc export -m my_map --map small_map"),
    )
