"""The command line of refine_poses.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gsplatloc.arguments.command_line import parse
from gsplatloc.arguments.stages import method_options, with_method_options
from gsplatloc.localization.io.pose_files import PoseFormat
from gsplatloc.localization.localizer import LocalizerOptions
from gsplatloc.localization.queries import Intrinsics
from gsplatloc.localization.refine.gscpr import Exposure, GscprOptions

DESCRIPTION = "Refine any estimator's poses in a map: render there, match, lift by depth, solve (GS-CPR)."


@dataclass(frozen=True)
class RefineArguments:
    """The options of refine_poses.py."""

    model_path: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """folder of the map, as train.py wrote it; results go to its subfolder refined/"""
    poses: Path
    """the given poses: a file `name qw qx qy qz tx ty tz [focal]` (cam_from_world), a TUM trajectory
    `timestamp tx ty tz qx qy qz qw` (camera in the world), or the folder of a COLMAP model"""
    format: PoseFormat = "auto"
    """format of --poses; auto = told by its content"""
    source_path: Annotated[Path | None, tyro.conf.arg(aliases=["-s"])] = None
    """folder of the scene with the images; unset = the one that the map was made from"""
    split: Literal["test", "train"] = "test"
    """images of the scene that are refined; those without a given pose count as failed"""
    images: Path | None = None
    """folder of photos instead of the scene's images; those without a given pose are left out"""
    focal: float | None = None
    """focal length of the photos in --images, pixels; unset = that in --poses, else EXIF's"""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy of the photos in --images, pixels; wins over --focal"""
    stages: tuple[str, ...] = ("gscpr",)
    """refinements to run, in order: gscpr and any other of loc_inference.py's, such as lm after it"""
    rounds: int = GscprOptions.rounds
    """renderings per photo in gscpr, each at the pose that the last one gave (GS-CPR: 1)"""
    matcher: str = GscprOptions.matcher
    """matcher of photo and rendering in gscpr: mutual nearest neighbours, lighterglue, lightglue; roma or
    mast3r where they are installed"""
    relative: bool = GscprOptions.relative
    """GS-CPR_rel: relative pose from the matches, only its scale from the rendered depth"""
    exposure: Exposure = GscprOptions.exposure
    """colours of the rendering in gscpr: as they are, by the map's network (train.py --exposure_model act),
    or affine and solved per photo"""
    iteration: int | None = None
    """iteration of the map; unset = the latest"""
    top_k: int = LocalizerOptions.top_k
    """keypoints per image"""
    max_side: int | None = None
    """pixels; larger photos are shrunk to it; unset = the size of the mapping images"""
    ransac_iters: int = GscprOptions().pnp.max_iterations
    """samples of RANSAC at most"""
    device: str = LocalizerOptions.device
    """device of the networks and the map: auto (a GPU where one can be used), cpu, cuda or cuda:N"""
    quiet: bool = False
    """print nothing but errors"""

    def options(self) -> LocalizerOptions:
        """The options of the localizer: the given pose, then `stages`."""
        gscpr = GscprOptions(
            rounds=self.rounds,
            matcher=self.matcher,
            relative=self.relative,
            exposure=self.exposure,
            top_k=self.top_k,
        )
        gscpr = replace(gscpr, pnp=replace(gscpr.pnp, max_iterations=self.ransac_iters))
        others = [item for item in method_options(self) if not isinstance(item, GscprOptions)]
        return LocalizerOptions(
            initial="given",
            stages=self.stages,
            settings=(gscpr, *others),
            top_k=self.top_k,
            max_side=self.max_side,
            device=self.device,
            quiet=self.quiet,
        )

    def known_intrinsics(self) -> Intrinsics:
        return Intrinsics(self.focal, self.intrinsics)


def parse_refine_arguments(argv: Sequence[str] | None = None) -> RefineArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(with_method_options(RefineArguments), DESCRIPTION, argv)
