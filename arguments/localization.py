"""The command line of loc_inference.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from arguments.command_line import parse
from localization.pipeline import DEFAULT_STAGES, LocalizerOptions
from localization.pnp import PnPOptions
from localization.queries import Intrinsics
from localization.refine.warp import WarpOptions

DESCRIPTION = "Localize images in a map: a scene's test images, or a folder of photos with --queries."


@dataclass(frozen=True)
class LocalizeArguments:
    """Everything that loc_inference.py can be told."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map, as train.py wrote it; results go to its subfolder localization/"""
    source_path: Annotated[Path | None, tyro.conf.arg(aliases=["-s"])] = None
    """folder of the scene with the test images; unset = the one that the map was made from"""
    queries: Path | None = None
    """folder of images to localize instead of the scene's test images; no ground truth is expected"""
    focal: float | None = None
    """focal length of the images in --queries, pixels; unset = EXIF's, else estimated per image"""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy of the images in --queries, pixels; wins over --focal"""
    stages: tuple[str, ...] = DEFAULT_STAGES
    """stages to run, in order, starting with prior: fine, warp and lm refine it"""
    iteration: int | None = None
    """iteration of the map to refine against; unset = the latest"""
    top_k: int = LocalizerOptions.top_k
    """keypoints per image"""
    max_side: int | None = None
    """pixels; larger images are shrunk to it for localization; unset = the size of the mapping images"""
    ransac_iters: int = PnPOptions.max_iterations
    """samples of RANSAC at most"""
    warp_lr: float = WarpOptions.lr
    """step of the warp stage's Adam, metres and radians"""
    warp_iters: int = WarpOptions.iterations
    """steps of the warp stage's Adam at most"""
    pictures: bool = True
    """draw the worst five and three typical queries: photo, rendering, difference, matched keypoints"""
    device: str = LocalizerOptions.device
    """device of the network and the map: auto (a GPU where one can be used), cpu, cuda or cuda:N"""
    quiet: bool = False
    """print nothing but errors"""

    def options(self) -> LocalizerOptions:
        return LocalizerOptions(
            stages=self.stages,
            top_k=self.top_k,
            max_side=self.max_side,
            pnp=PnPOptions(max_iterations=self.ransac_iters),
            warp=WarpOptions(lr=self.warp_lr, iterations=self.warp_iters),
            device=self.device,
            quiet=self.quiet,
        )

    def known_intrinsics(self) -> Intrinsics:
        return Intrinsics(self.focal, self.intrinsics)


def parse_localize_arguments(argv: Sequence[str] | None = None) -> LocalizeArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(LocalizeArguments, DESCRIPTION, argv)
