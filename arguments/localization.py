"""The command line of loc_inference.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.arguments.stages import method_options, with_method_options
from gsplatloc.localization.initial.landmarks import LandmarkMatchingOptions
from gsplatloc.localization.initial.retrieval import RetrievalOptions
from gsplatloc.localization.localizer import DEFAULT_STAGES, LocalizerOptions
from gsplatloc.localization.queries import Intrinsics
from gsplatloc.localization.refine.gscpr import GscprOptions
from gsplatloc.localization.refine.warp import WarpOptions

DESCRIPTION = "Localize images in a map: a scene's test images, or a folder of photos with --queries."


@dataclass(frozen=True)
class LocalizeArguments:
    """The options of loc_inference.py."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map, as train.py wrote it; results go to its subfolder localization/"""
    source_path: Annotated[Path | None, tyro.conf.arg(aliases=["-s"])] = None
    """folder of the scene with the test images; unset = the scene that the map was made from"""
    queries: Path | None = None
    """folder of images to localize instead of the scene's test images; no ground truth is expected"""
    focal: float | None = None
    """focal length of the images in --queries, pixels; unset = EXIF's, else estimated per image"""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy of the images in --queries, pixels; wins over --focal"""
    initial: Annotated[str, tyro.conf.arg(aliases=["--start"])] = LocalizerOptions.initial
    """initial pose: landmarks (matches with the map's landmarks), or retrieval (views of the map that look
    alike; the query fails if no refinement accepts one of them)"""
    stages: tuple[str, ...] = DEFAULT_STAGES
    """refinements to run, in order: fine, gscpr, gsloc, lm, warp; `--stages initial` runs none"""
    refine: str | None = None
    """the one refinement to run, short for --stages NAME"""
    iteration: int | None = None
    """iteration of the map; unset = the latest"""
    top_k: int = LocalizerOptions.top_k
    """maximum number of keypoints per image"""
    max_side: int | None = None
    """pixels; larger images are shrunk to it for localization; unset = the size of the mapping images"""
    ransac_iters: int | None = None
    """maximum number of RANSAC samples, of every method; unset = 20,000"""
    warp_lr: float | None = None
    """learning rate of the refinement warp: image motion per Adam step, radians of view; unset = 0.001"""
    warp_iters: int | None = None
    """maximum number of Adam steps of the refinement warp; unset = 250"""
    retrieval_views: int | None = None
    """rendered views that --initial retrieval adds to the mapping views; unset = 0"""
    pictures: bool = True
    """draw the five queries with the largest errors and three typical ones: query image, rendering,
    difference, matched keypoints"""
    device: str = LocalizerOptions.device
    """device of the network and the map: auto (a GPU where one can be used), cpu, cuda or cuda:N"""
    quiet: bool = False
    """print nothing but errors"""

    def options(self) -> LocalizerOptions:
        """The options of the localizer; short flags win over those of a method."""
        settings = [self._overridden(item) for item in method_options(self)]
        return LocalizerOptions(
            initial="landmarks" if self.initial == "prior" else self.initial,
            stages=self.stages if self.refine is None else (self.refine,),
            settings=tuple(settings),
            top_k=self.top_k,
            max_side=self.max_side,
            device=self.device,
            quiet=self.quiet,
        )

    def _overridden(self, options: Any) -> Any:
        """The options of one method with the short flags that concern it."""
        if isinstance(options, LandmarkMatchingOptions | GscprOptions):
            options = replace(options, pnp=given(options.pnp, max_iterations=self.ransac_iters))
        if isinstance(options, GscprOptions):
            return replace(options, top_k=self.top_k)
        if isinstance(options, WarpOptions):
            return given(options, lr=self.warp_lr, iterations=self.warp_iters)
        if isinstance(options, RetrievalOptions):
            return given(options, views=self.retrieval_views)
        return options

    def known_intrinsics(self) -> Intrinsics:
        return Intrinsics(self.focal, self.intrinsics)


def given(options: Any, **values: Any) -> Any:
    """`options` with those of `values` that are not None."""
    return replace(options, **{name: value for name, value in values.items() if value is not None})


def parse_localize_arguments(argv: Sequence[str] | None = None) -> LocalizeArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(with_method_options(LocalizeArguments), DESCRIPTION, argv)
