"""The command line of gsplatloc localize."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import OmitArgPrefixes

from gsplatloc.arguments.command_line import parse
from gsplatloc.arguments.stages import (
    ComputationArguments,
    expanded,
    listed,
    method_options,
    with_method_options,
)
from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.initial.members import GIVEN
from gsplatloc.localization.io import FOLDER_NAME, QUERIES_FOLDER_NAME
from gsplatloc.localization.options import DEFAULT_STAGES, LocalizerOptions
from gsplatloc.localization.refine import REFINERS
from gsplatloc.localization.tiles.options import TileOptions
from gsplatloc.scene.map_folder import require_map
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.paths import require_output_folder, require_path

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.localization.queries import Intrinsics

DESCRIPTION = "Localize images in a map: a scene's test images, or a folder of images with --queries."
EXAMPLES = (
    "gsplatloc localize -m my_map --queries new_photos/",
    "gsplatloc localize -m my_map --queries photo.jpg --focal 1450 --json",
    "gsplatloc localize -m my_map --stages fine warp",
)

# Flags of GSplatLoc and of earlier versions.
SHORT_FLAGS = {
    "--start": "--initial",
    "--warp_lr": "--warp.lr",
    "--warp_iters": "--warp.iterations",
    "--retrieval_views": "--retrieval.views",
}


@dataclass(frozen=True)
class CameraArguments:
    """What is known of the camera of images in a folder."""

    focal: float | None = None
    """focal length, pixels; unset = that of a pose file where one is given, else EXIF's, else estimated"""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy, pixels; wins over --focal"""

    def known(self) -> "Intrinsics":
        from gsplatloc.localization.queries import Intrinsics  # with torch, once images are read

        return Intrinsics(self.focal, self.intrinsics)


@dataclass(frozen=True)
class LocalizeArguments:
    """The options of gsplatloc localize. Help of `initial` and `stages` follows from the registries."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map, as gsplatloc train wrote it"""
    source_path: Annotated[Path | None, tyro.conf.arg(aliases=["-s"])] = None
    """scene whose test images are localized, or all if it has none; unset = the scene of the map"""
    queries: Path | None = None
    """image, folder of images, or phone's recording (.r3d, .zip) to localize; without ground truth"""
    output: Path | None = None
    """folder of the results; unset = MODEL_PATH/localization, with --queries MODEL_PATH/queries"""
    initial: str = LocalizerOptions.initial
    stages: tuple[str, ...] = DEFAULT_STAGES
    refine: str | None = None
    """the one refinement to run, short for --stages NAME"""
    fallback: bool = LocalizerOptions.fallback
    """search further hypotheses for queries whose pose was not verified"""
    tile_memory_mb: float = TileOptions.memory_mb
    """memory for the Gaussians and landmarks of loaded tiles of a map in tiles, MB"""
    pictures: bool = True
    """write report.html, with pictures of the worst queries and of typical ones"""
    json: bool = False
    """print a JSON object per query on stdout, one a line, as soon as it is there; the rest goes to stderr"""
    camera: OmitArgPrefixes[CameraArguments] = field(default_factory=CameraArguments)
    computation: OmitArgPrefixes[ComputationArguments] = field(default_factory=ComputationArguments)

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        if self.refine is not None and self.stages != DEFAULT_STAGES:
            raise GSplatLocError(
                f"expected --refine or --stages, found {self.refine} and {' '.join(self.stages)}: pass one"
            )
        if self.initial == GIVEN:
            raise GSplatLocError(
                "expected an initial pose that is found in the image, found given: gsplatloc refine starts"
                " from given poses"
            )
        require_map(self.model_path)
        require_path(self.queries, "a photo or a folder of photos", "--queries")
        require_output_folder(self.results_folder(), "--output", [self.model_path], self.queries)

    def results_folder(self) -> Path:
        """Where the results go; those of --queries do not replace the evaluation of the test images."""
        name = FOLDER_NAME if self.queries is None else QUERIES_FOLDER_NAME
        return self.output or self.model_path / name

    def options(self) -> LocalizerOptions:
        """The options of the localizer."""
        initial = LocalizerOptions.initial if self.initial == "prior" else self.initial
        stages = self.stages if self.refine is None else (self.refine,)
        options = localizer_options(initial, stages, self.computation, method_options(self))
        return replace(options, fallback=self.fallback)


def localizer_options(
    initial: str, stages: tuple[str, ...], computation: ComputationArguments, settings: Sequence[object]
) -> LocalizerOptions:
    """Options of the localizer from those of a command line; its limits win over those of a method."""
    return LocalizerOptions(
        initial=initial,
        stages=stages,
        settings=tuple(computation.applied(item) for item in settings),
        top_k=LocalizerOptions.top_k if computation.top_k is None else computation.top_k,
        max_side=computation.max_side,
        device=computation.device,
        quiet=computation.quiet,
    )


def parse_localize_arguments(argv: Sequence[str] | None = None) -> LocalizeArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    initial_help = f"initial pose (--start = --initial): {listed(INITIAL_POSES, without=GIVEN)}"
    stages_help = f"refinements to run, in order: {listed(REFINERS)}; `--stages initial` runs none"
    kind = with_method_options(
        LocalizeArguments, SHORT_FLAGS, {"initial": initial_help, "stages": stages_help}
    )
    return parse(kind, DESCRIPTION, expanded(argv, SHORT_FLAGS), examples=EXAMPLES)
