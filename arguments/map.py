"""The command line of gsplatloc map."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from gsplatloc.arguments.command_line import parse
from gsplatloc.arguments.presets import Preset, mapping_preset
from gsplatloc.mapping.options import MappingOptions, PosingOptions, with_checkpoints
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.utils.paths import require_output_folder, require_path

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.scene.map_config import MapConfig

DESCRIPTION = (
    "Make a map of photos or a video in one go: poses, splats, landmarks, and a picture as a first look."
    " The same command goes on with a run that was stopped. A scene with poses, of any layout that"
    " gsplatloc train reads, is mapped with them."
)
EXAMPLES = (
    "gsplatloc map photos/ -m my_map",
    "gsplatloc map video.mp4 -m my_map --frames 100",
    "gsplatloc map clip.r3d -m my_map",
)


@dataclass(frozen=True)
class MapArguments:
    """The options of gsplatloc map."""

    source: Positional[Path]
    """folder of photos, a video, a phone's recording (.r3d, .zip), or a scene with poses"""
    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map; the posed photos are in its subfolder scene/"""
    preset: Preset = "cpu"
    """cpu: minutes on two cores; gpu: 7,000 iterations on a GPU; paper: GSplatLoc's settings"""
    iterations: int | None = None
    """number of training steps; unset = the preset's"""
    frames: int = 150
    """number of frames to take from a video or a recording: the sharpest of as many equal stretches"""
    max_side: int = 1600
    """pixels; larger photos and frames are shrunk"""
    posing: OmitArgPrefixes[PosingOptions] = field(default_factory=PosingOptions)

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_path(self.source, "photos, a video or a scene", "the path")
        require_output_folder(self.model_path, "--model_path", [self.source])

    def mapping(self) -> MappingOptions:
        """The options of the mapping run."""
        return with_checkpoints(mapping_preset(self.preset), self.iterations, self.posing.quiet)

    def scene(self) -> SceneOptions:
        """How a scene with poses is read."""
        return SceneOptions(frames=self.frames)

    def config(self, scene: Path) -> "MapConfig":
        """The record that is saved with the map of the posed scene in the folder `scene`."""
        from gsplatloc.datasets.layout import is_metric  # with torch, once a map is made
        from gsplatloc.scene.map_config import MapConfig

        source, training = str(scene.resolve()), asdict(self.mapping())
        return MapConfig(source, self.scene(), self.preset, training=training, metric=is_metric(scene))


def parse_map_arguments(argv: Sequence[str] | None = None) -> MapArguments:
    """The command line of gsplatloc map; exits with 2 on wrong usage and 0 after --help."""
    return parse(MapArguments, DESCRIPTION, argv, examples=EXAMPLES)
