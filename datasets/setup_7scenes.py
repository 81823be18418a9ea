"""`gsplatloc setup 7scenes --poses pgt --yes`: download 7-Scenes and lay it out for mapping."""

from dataclasses import dataclass

import tyro

from gsplatloc.datasets.command import SetupOptions, accept_terms
from gsplatloc.datasets.options import SevenScenesDepth, SevenScenesPoses
from gsplatloc.datasets.upstream import (
    PSEUDO_GROUND_TRUTH,
    SEVEN_SCENES,
    SEVEN_SCENES_NAMES,
    SevenScenesName,
)
from gsplatloc.utils.console import run_script


@dataclass(frozen=True)
class Arguments(SetupOptions):
    """Download 7-Scenes and write one folder per scene, `7scenes_NAME` or `pgt_7scenes_NAME`."""

    poses: SevenScenesPoses = "calibrated"  # of the depth camera (original), the colour camera, or SfM (pgt)
    depth: SevenScenesDepth = "none"  # calibrated: also write depth maps, registered to the colour camera
    scenes: tuple[SevenScenesName, ...] = SEVEN_SCENES_NAMES  # which scenes


def main() -> None:
    arguments = tyro.cli(Arguments, prog="gsplatloc setup 7scenes")
    from gsplatloc.datasets.seven_scenes import (
        setup_scene,  # with torch or OpenCV, once the command line is parsed
    )

    accept_terms(arguments, SEVEN_SCENES, PSEUDO_GROUND_TRUTH)
    for scene in arguments.scenes:
        setup_scene(arguments, scene, arguments.poses, arguments.depth)


if __name__ == "__main__":
    run_script(main)
