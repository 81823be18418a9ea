"""The command line of loc_inference.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.localization.initial.view_index import ViewRetrievalOptions
from gsplatloc.localization.localizer import DEFAULT_STAGES, INITIAL, STAGES, LocalizerOptions
from gsplatloc.localization.pose.pnp import PnPOptions
from gsplatloc.localization.queries import Intrinsics
from gsplatloc.localization.refine.gscpr import GscprOptions
from gsplatloc.localization.refine.warp import WarpOptions
from gsplatloc.utils.errors import GSplatLocError

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
    """stages to run, in order, starting with prior: fine, warp, lm, gsloc and gscpr refine it"""
    refine: str | None = None
    """the one refinement to run after prior, short for --stages prior NAME"""
    start: str = LocalizerOptions.start
    """what refinements start from: prior (matches with landmarks), or retrieval (of views of the map; if none
    leads to an accepted pose, the photo counts as failed)"""
    retrieval_views: int = ViewRetrievalOptions.retrieval_views
    """rendered views between the mapping views that --start retrieval looks among, too"""
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

    @property
    def chain(self) -> tuple[str, ...]:
        """The stages to run; raises `GSplatLocError` for a refinement that there is not."""
        if self.refine is None:
            return self.stages
        if self.refine not in STAGES[1:]:
            raise GSplatLocError(
                f"expected a refinement among {', '.join(STAGES[1:])}, found {self.refine!r}: see --refine"
            )
        return (INITIAL, self.refine)

    def options(self) -> LocalizerOptions:
        pnp, gscpr = PnPOptions(max_iterations=self.ransac_iters), GscprOptions()
        return LocalizerOptions(
            stages=self.chain,
            top_k=self.top_k,
            max_side=self.max_side,
            pnp=pnp,
            warp=WarpOptions(lr=self.warp_lr, iterations=self.warp_iters),
            gscpr=replace(gscpr, top_k=self.top_k, pnp=replace(gscpr.pnp, max_iterations=self.ransac_iters)),
            start=self.start,
            views=ViewRetrievalOptions(retrieval_views=self.retrieval_views),
            device=self.device,
            quiet=self.quiet,
        )

    def known_intrinsics(self) -> Intrinsics:
        return Intrinsics(self.focal, self.intrinsics)


def parse_localize_arguments(argv: Sequence[str] | None = None) -> LocalizeArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(LocalizeArguments, DESCRIPTION, argv)
