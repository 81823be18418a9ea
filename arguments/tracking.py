"""The command line of gsplatloc track."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.scene.readers import require_scene
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.tracking.options import Method, Split, TrackingOptions
from gsplatloc.utils.paths import require_output_folder

DESCRIPTION = "Track an RGB-D camera frame by frame, and map the sequence as Gaussians."
EXAMPLES = (
    "gsplatloc track -s sequence/ -m tracked",
    "gsplatloc track -s sequence/ -m tracked --depth_units 1000",
)
_DEFAULTS = TrackingOptions()


@dataclass(frozen=True)
class TrackingArguments:
    """The options of gsplatloc track."""

    source_path: Annotated[Path, tyro.conf.arg(aliases=["-s"])]
    """folder of the RGB-D sequence: TUM, Replica, or any scene with depth"""
    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder for the trajectory, the map and the figures"""
    method: Method = _DEFAULTS.method
    """lm: second-order alignment of image and depth; gsplatloc: gradient descent on the rendered depth"""
    split: Split = "all"
    """images of a scene that has two splits: all in the order of their names, train, or test"""
    first: int = 0
    """index of the first frame, counted from 0"""
    last: int | None = None
    """index of the last frame, inclusive; unset = the end"""
    depth_units: float | None = None
    """values of the depth images per metre; unset = the layout's own (TUM 5000, others 1000)"""
    depth_along_rays: bool = False
    """depth images hold distances along the rays of pixels, not depth along the optical axis"""
    side: Annotated[int, tyro.conf.arg(aliases=["--frames.side"])] = _DEFAULTS.frames.side
    """pixels; images are halved while their longer side is at least twice this"""
    max_depth: Annotated[float, tyro.conf.arg(aliases=["--frames.max_depth"])] = _DEFAULTS.frames.max_depth
    """metres; larger depths are ignored"""
    depth_weight: Annotated[float, tyro.conf.arg(aliases=["--lm.depth_weight"])] = _DEFAULTS.lm.depth_weight
    """effective sample size of all depths of a frame, in lm; 0 = images only"""
    iterations: Annotated[int, tyro.conf.arg(aliases=["--gsplatloc.iterations"])] = (
        _DEFAULTS.gsplatloc.iterations
    )
    """maximum number of Adam steps per frame, in gsplatloc"""
    max_points: Annotated[int, tyro.conf.arg(aliases=["--surface.max_points"])] = _DEFAULTS.surface.max_points
    """maximum number of Gaussians in the map"""
    quiet: bool = False
    """no progress bar"""

    def check(self) -> None:
        """Raise `GSplatLocError` for a wrong path: before anything is loaded."""
        require_scene(self.source_path)
        require_output_folder(self.model_path, "--model_path", [self.source_path])

    def tracking(self) -> TrackingOptions:
        """The options of the tracker."""
        return replace(
            _DEFAULTS,
            method=self.method,
            frames=replace(_DEFAULTS.frames, side=self.side, max_depth=self.max_depth),
            lm=replace(_DEFAULTS.lm, depth_weight=self.depth_weight),
            gsplatloc=replace(_DEFAULTS.gsplatloc, iterations=self.iterations),
            surface=replace(_DEFAULTS.surface, max_points=self.max_points),
        )

    def scene(self) -> SceneOptions:
        # Frames are shrunk when they are prepared, depth with care.
        return SceneOptions(
            resolution=1, depth_units=self.depth_units, depth_along_rays=self.depth_along_rays
        )

    def range(self) -> slice:
        """The frames as a slice."""
        return slice(self.first, None if self.last is None else self.last + 1)


def parse_tracking_arguments(argv: Sequence[str] | None = None) -> TrackingArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(TrackingArguments, DESCRIPTION, argv, examples=EXAMPLES)
