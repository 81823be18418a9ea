"""The command line of gsplatloc reproduce."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from gsplatloc.arguments.command_line import parse
from gsplatloc.arguments.presets import mapping_preset
from gsplatloc.arguments.stages import with_help
from gsplatloc.datasets.command import SetupOptions
from gsplatloc.mapping.options import MappingOptions, with_checkpoints
from gsplatloc.reproduction.methods import MethodName
from gsplatloc.reproduction.request import Request
from gsplatloc.reproduction.tables import TABLES, Table, table_of
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_folder, require_path

DESCRIPTION = (
    "Make a table of a paper again: find or download the data, map every scene, localize every test image,"
    " and write one page with our figures beside the published ones. The same command goes on with a run that"
    " was stopped or killed."
)


@dataclass(frozen=True)
class ReproduceArguments:
    """The options of gsplatloc reproduce. Help of `table` follows from the tables."""

    table: Positional[str]
    scenes: tuple[str, ...] = ()
    """scenes of the table; unset = all"""
    method: Literal["ours", "paper", "sparse", "both", "all"] = "ours"
    """ours: defaults; paper: as published; sparse: landmarks, no splat; both: ours and paper; all: each"""
    data: Path = Path("datasets")
    """folder of the data: as gsplatloc setup makes it, or upstream's archives; what it lacks is downloaded"""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """folder of maps, results and the page; unset = output/reproduce/TABLE"""
    dry_run: bool = False
    """print what it will do and what it takes, and do nothing"""
    every: int = 1
    """localize one test image in so many, for a trial; the page says so"""
    iterations: int | None = None
    """number of training steps of every map, for a trial; unset = the method's own"""
    resolution: Annotated[int | None, tyro.conf.arg(aliases=["-r"])] = None
    """1 2 4 8 = divisor of the image size; other = width in pixels; unset = at most 1600 pixels wide"""
    poses: Path | None = None
    """folder of pose files that gs-cpr refines: their names contain the scene's and the estimator's"""
    yes: bool = False
    """accept the licences of the data without being asked"""
    mirror: str | None = None
    """address of a mirror to download from (or GSPLATLOC_MIRROR)"""
    workers: int = 0
    """processes that make scenes, and parts of their test images, side by side; 0 = all in this process"""
    ray: str | None = None
    """Ray cluster to use: HOST:PORT, auto or local; its machines need this package, --data and --output"""
    cores: int = 1
    """cores of each worker"""
    quiet: bool = False
    """print nothing but errors"""

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cores < 1:
            raise GSplatLocError("expected --workers of at least 0 and --cores of at least 1, found less")
        if self.workers and self.ray:
            raise GSplatLocError("expected --workers or --ray, found both: pass one of them")

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_path(self.poses, "a folder of pose files", "--poses")
        if not self.dry_run:
            require_output_folder(self.output, "--output")
            if not self.data.expanduser().is_dir():  # complete data sets are only read
                require_output_folder(self.data, "--data")

    def words(self) -> list[str]:
        """The command line of these arguments, without those that say where and how it runs."""
        request = self.request()
        words = [self.table, "--quiet", "--every", str(self.every)]
        folders = {"data": request.setup.output, "output": request.output, "poses": request.poses}
        for name, folder in folders.items():
            words += [] if folder is None else [f"--{name}", str(folder.absolute())]
        for name in ("iterations", "resolution"):
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        return words

    def request(self) -> Request:
        """What is to be made; raises `GSplatLocError` for an unknown table and impossible numbers."""
        table = table_of(self.table)
        if self.every < 1 or (self.iterations is not None and self.iterations < 1):
            raise GSplatLocError("expected --every and --iterations of at least 1, found less: correct them")
        return Request(
            self.table,
            table,
            tuple(dict.fromkeys(self.scenes)) or table.scenes,
            self._methods(table),
            SetupOptions(self.data.expanduser(), self.yes, self.mirror),
            (self.output or Path("output") / "reproduce" / self.table).expanduser(),
            self._mapping,
            self.every,
            self.resolution,
            None if self.poses is None else self.poses.expanduser(),
            self.quiet,
        )

    def _methods(self, table: Table) -> tuple[MethodName, ...]:
        if self.method == "all":
            return table.methods
        methods: tuple[MethodName, ...] = ("ours", "paper") if self.method == "both" else (self.method,)
        if not set(methods) <= set(table.methods):
            raise GSplatLocError(
                f"expected --method {' or '.join(table.methods)} for {self.table}, found {self.method}:"
                " it localizes images without poses only"
            )
        return methods

    def _mapping(self, name: MethodName) -> MappingOptions:
        options = mapping_preset("paper" if name == "paper" else "cpu")
        return with_checkpoints(options, 0 if name == "sparse" else self.iterations, self.quiet)


def parse_reproduce_arguments(argv: Sequence[str] | None = None) -> ReproduceArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    names = "; ".join(f"{name} ({table.title})" for name, table in TABLES.items())
    return parse(with_help(ReproduceArguments, {"table": f"which table: {names}"}), DESCRIPTION, argv)
