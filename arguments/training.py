"""The command line of gsplatloc train."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import tyro
from tyro.conf import OmitArgPrefixes

from gsplatloc.arguments.command_line import parse, peek
from gsplatloc.arguments.presets import Preset, mapping_preset
from gsplatloc.arguments.stages import listed, with_help, without_help
from gsplatloc.localization.features import EXTRACTORS
from gsplatloc.mapping.options import (
    DebugOptions,
    DescriptorOptions,
    FrameCacheOptions,
    InitializationOptions,
    LossOptions,
    MappingOptions,
    OptimizerOptions,
    OutputOptions,
    RenderingOptions,
    ScheduleOptions,
    StoppingOptions,
)
from gsplatloc.scene.densification_options import DensificationOptions
from gsplatloc.scene.readers import require_scene
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.utils.paths import require_output_folder, require_path

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.scene.map_config import MapConfig

DESCRIPTION = (
    "Make a feature splat map of a scene: reads posed images, writes a folder that gsplatloc localize reads."
)
EXAMPLES = (
    "gsplatloc train -s scene/ -m my_map --preset cpu",
    "gsplatloc train -s colmap_scene/ -m my_map --preset cpu --eval",
)
_GROUPS = tuple(group.name for group in fields(MappingOptions) if group.name != "feature_sized")


@dataclass(frozen=True)
class SceneArguments:
    """The scene and the folder of its map."""

    source_path: Annotated[Path, tyro.conf.arg(aliases=["-s"])]
    """the scene: train/ and test/, a COLMAP model, transforms.json, ..., a phone's recording (.r3d, .zip)"""
    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder that the map is written to"""
    images: Annotated[str | None, tyro.conf.arg(aliases=["-i"])] = None
    """folder of the images within the scene; unset = the layout's own"""
    eval: bool = False
    """hold out every 8th image as a test image, where the scene has no test images of its own"""
    resolution: Annotated[int | None, tyro.conf.arg(aliases=["-r"])] = None
    """1 2 4 8 = divisor of the size; 0 = the feature map's; other = width in pixels; unset = at most 1600"""
    white_background: Annotated[bool, tyro.conf.arg(aliases=["-w"])] = False
    """white instead of black behind the map and transparent images"""
    strict: bool = False
    """stop at the first image that is cut or damaged; otherwise such images are left out, with a count"""
    depth_units: float | None = None
    """values of the depth images per metre; unset = the layout's own (TUM 5000, others 1000, floats 1)"""
    depth_along_rays: bool = False
    """depth images hold distances along the rays of pixels, not depth along the optical axis"""

    def options(self) -> SceneOptions:
        """How the scene is read. Resolution 0 only concerns training: features need full-size images."""
        resolution = None if self.resolution == 0 else self.resolution
        return SceneOptions(
            self.images, self.eval, resolution, self.white_background, self.strict, self.depth_units,
            self.depth_along_rays,
        )  # fmt: skip


@dataclass(frozen=True)
class ViewerArguments:
    """A live view of the map while it trains."""

    ip: str = "127.0.0.1"
    """address to serve the live view at"""
    port: int | None = None
    """port to serve the live view at; unset = no live view"""
    allowed_hosts: tuple[str, ...] = ()
    """further names under which browsers reach this machine; localhost and its addresses need none"""


@dataclass(frozen=True)
class TrainArguments:
    """The options of gsplatloc train."""

    scene: OmitArgPrefixes[SceneArguments]
    preset: Preset = "paper"
    """paper: as GSplatLoc; cpu: minutes on two cores; gpu: 7,000 iterations on a GPU; flags override it"""
    tile_views: int | None = None
    """map in overlapping tiles of about so many views, one by one: for over 500 images; unset = one map"""
    workers: int = 1
    """tiles that are mapped at a time, each in the memory of one and with its share of the cores"""
    schedule: OmitArgPrefixes[ScheduleOptions] = field(default_factory=ScheduleOptions)
    stopping: OmitArgPrefixes[StoppingOptions] = field(default_factory=StoppingOptions)
    initialization: OmitArgPrefixes[InitializationOptions] = field(default_factory=InitializationOptions)
    losses: OmitArgPrefixes[LossOptions] = field(default_factory=LossOptions)
    optimizer: OmitArgPrefixes[OptimizerOptions] = field(default_factory=OptimizerOptions)
    densification: OmitArgPrefixes[DensificationOptions] = field(default_factory=DensificationOptions)
    rendering: OmitArgPrefixes[RenderingOptions] = field(default_factory=RenderingOptions)
    descriptors: OmitArgPrefixes[DescriptorOptions] = field(default_factory=DescriptorOptions)
    frames: OmitArgPrefixes[FrameCacheOptions] = field(default_factory=FrameCacheOptions)
    output: OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    debug: OmitArgPrefixes[DebugOptions] = field(default_factory=DebugOptions)
    viewer: OmitArgPrefixes[ViewerArguments] = field(default_factory=ViewerArguments)

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_scene(self.scene.source_path)
        start = self.output.start_checkpoint
        require_path(None if start is None else Path(start), "a checkpoint", "--start_checkpoint")
        require_output_folder(self.scene.model_path, "--model_path", [self.scene.source_path])

    def mapping(self) -> MappingOptions:
        """The options of the mapping run."""
        groups = {name: getattr(self, name) for name in _GROUPS}
        return MappingOptions(**groups, feature_sized=self.scene.resolution == 0)

    def config(self) -> "MapConfig":
        """The record that is saved with the map."""
        from gsplatloc.datasets.layout import is_metric  # with torch, once a map is made
        from gsplatloc.scene.map_config import MapConfig

        source, training = self.scene.source_path.resolve(), asdict(self.mapping())
        options, metric = self.scene.options(), is_metric(source)
        return MapConfig(str(source), options, self.preset, training=training, metric=metric)


def parse_train_arguments(argv: Sequence[str] | None = None) -> TrainArguments:
    """The command line of gsplatloc train; exits with 2 on wrong usage and 0 after --help."""
    argv = list(sys.argv[1:] if argv is None else argv)
    wanted = peek("preset", argv, "paper")
    preset: Preset = wanted if wanted in get_args(Preset) else "paper"  # type: ignore[assignment]
    groups = mapping_preset(preset)
    described = with_help(DescriptorOptions, {"extractor": f"feature extractor: {listed(EXTRACTORS)}"})
    group = OmitArgPrefixes[described]  # type: ignore[valid-type]
    kind = with_help(TrainArguments, {}, [("descriptors", group, field(default_factory=described))])
    chosen = {name: getattr(groups, name) for name in _GROUPS}
    default = kind(
        scene=SceneArguments(tyro.MISSING, tyro.MISSING),
        preset=preset,
        **chosen | {"descriptors": described(**vars(groups.descriptors))},
    )
    parsed: TrainArguments = parse(kind, DESCRIPTION, argv, default, EXAMPLES)
    descriptors = without_help(parsed.descriptors, DescriptorOptions)
    return TrainArguments(**vars(parsed) | {"descriptors": descriptors})
