"""The command line of track_rgbd.py."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.tracking.frames import FrameOptions
from gsplatloc.tracking.gsplatloc import GsplatLocOptions
from gsplatloc.tracking.lm import LmOptions
from gsplatloc.tracking.options import Method, TrackingOptions
from gsplatloc.tracking.sequence import Split
from gsplatloc.tracking.surface import SurfaceOptions


@dataclass(frozen=True)
class TrackingArguments:
    """Everything that track_rgbd.py can be told."""

    source_path: Annotated[Path, tyro.conf.arg(aliases=["-s"])]
    """folder of the RGB-D sequence: TUM, Replica, or any scene with depth"""
    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder for the trajectory, the map and the figures"""
    method: Method = "lm"
    """lm: second-order alignment of colour and depth; gsplatloc: descent through the rendered depth"""
    split: Split = "all"
    """images of a scene that has two splits: all in the order of their names, train, or test"""
    first: int = 0
    """first frame, counted from 0"""
    last: int | None = None
    """last frame, itself included; unset = the end"""
    depth_units: float | None = None
    """values of the depth images per metre; unset = the layout's own (TUM 5000, others 1000)"""
    frames: FrameOptions = field(default_factory=FrameOptions)
    """how images are prepared"""
    lm: LmOptions = field(default_factory=LmOptions)
    """how lm aligns"""
    gsplatloc: GsplatLocOptions = field(default_factory=GsplatLocOptions)
    """how gsplatloc aligns"""
    surface: SurfaceOptions = field(default_factory=SurfaceOptions)
    """how depth is fused"""
    quiet: bool = False
    """no progress bar"""

    def tracking(self) -> TrackingOptions:
        return TrackingOptions(self.method, self.frames, self.lm, self.gsplatloc, self.surface)

    def scene(self) -> SceneOptions:
        # Frames are shrunk when they are prepared, depth with care.
        return SceneOptions(resolution=1, depth_units=self.depth_units)

    def range(self) -> slice:
        return slice(self.first, None if self.last is None else self.last + 1)


def parse_tracking_arguments(argv: Sequence[str] | None = None) -> TrackingArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(
        TrackingArguments, "Track an RGB-D camera and map what it sees as Gaussians, frame by frame.", argv
    )
