"""The command line of gsplatloc refine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes

from gsplatloc.arguments.command_line import parse
from gsplatloc.arguments.localization import CameraArguments, localizer_options
from gsplatloc.arguments.stages import (
    ComputationArguments,
    expanded,
    listed,
    method_options,
    with_method_options,
)
from gsplatloc.localization.initial.members import GIVEN
from gsplatloc.localization.io import PoseFormat
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.refine import REFINERS
from gsplatloc.scene.map_folder import require_map
from gsplatloc.utils.paths import require_output_folder, require_path

DESCRIPTION = (
    "Refine the poses of any estimator in a map. By default (GS-CPR) the map is rendered at each pose and"
    " matched with the image, matched pixels are lifted by rendered depth, and the pose is solved from them."
    " Given poses go from world to camera in lines `name qw qx qy qz tx ty tz [focal]` (cam_from_world, wxyz)"
    " and in a COLMAP model, and from camera to world in lines `timestamp tx ty tz qx qy qz qw` (TUM, xyzw)."
    " The axes of cameras are x right, y down, z forward. Convert poses of another convention first."
)
EXAMPLES = (
    "gsplatloc refine -m my_map --poses poses.txt",
    "gsplatloc refine -m my_map --poses poses.txt --stages lm",
)

# Flags of the default refinement without its name.
SHORT_FLAGS = {
    "--rounds": "--gscpr.rounds",
    "--matcher": "--gscpr.matcher",
    "--relative": "--gscpr.relative",
    "--no_relative": "--gscpr.no_relative",
    "--exposure": "--gscpr.exposure",
}


@dataclass(frozen=True)
class RefineArguments:
    """The options of gsplatloc refine. Help of `stages` follows from the registry."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map, as gsplatloc train wrote it"""
    poses: Path
    """lines `name qw qx qy qz tx ty tz [focal]` (world to camera), TUM trajectory, or COLMAP folder"""
    format: PoseFormat = "auto"
    """format of --poses; auto = detected from its content"""
    source_path: Annotated[Path | None, tyro.conf.arg(aliases=["-s"])] = None
    """folder of the scene with the images; unset = the scene that the map was made from"""
    split: Literal["test", "train"] = "test"
    """images of the scene whose poses are refined; an image without a given pose counts as failed"""
    images: Path | None = None
    """folder of images instead of the scene's; an image without a given pose is left out"""
    output: Path | None = None
    """folder of the results; unset = MODEL_PATH/refined"""
    stages: tuple[str, ...] = ("gscpr",)
    camera: OmitArgPrefixes[CameraArguments] = field(default_factory=CameraArguments)
    computation: OmitArgPrefixes[ComputationArguments] = field(default_factory=ComputationArguments)

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_map(self.model_path)
        require_path(self.poses, "poses", "--poses")
        require_path(self.images, "a folder of images", "--images")
        require_path(self.source_path, "a scene folder", "--source_path")
        inputs = [self.model_path, self.source_path, self.poses]
        require_output_folder(self.folder(), "--output", inputs, self.images)

    def folder(self) -> Path:
        """Where the results go."""
        return self.output or self.model_path / "refined"

    def options(self) -> LocalizerOptions:
        """The options of the localizer: the given pose, then `stages`."""
        return localizer_options(GIVEN, self.stages, self.computation, method_options(self))


def parse_refine_arguments(argv: Sequence[str] | None = None) -> RefineArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    stages_help = f"refinements to run, in order: {listed(REFINERS)}"
    kind = with_method_options(RefineArguments, SHORT_FLAGS, {"stages": stages_help})
    return parse(kind, DESCRIPTION, expanded(argv, SHORT_FLAGS), examples=EXAMPLES)
