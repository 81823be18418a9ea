"""Download 7-Scenes and lay it out for train.py: python datasets/setup_7scenes.py --poses pgt --yes"""

from dataclasses import dataclass

import tyro

from gsplatloc.datasets.command import SetupOptions, accept_terms
from gsplatloc.datasets.seven_scenes import Depth, Poses, setup_scene
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

    poses: Poses = "calibrated"  # depth camera's (original), colour camera's, or SfM pseudo ground truth
    depth: Depth = "none"  # calibrated: also write depth, registered to colour
    scenes: tuple[SevenScenesName, ...] = SEVEN_SCENES_NAMES  # which scenes


def main() -> None:
    arguments = tyro.cli(Arguments)
    accept_terms(arguments, SEVEN_SCENES, PSEUDO_GROUND_TRUTH)
    for scene in arguments.scenes:
        setup_scene(arguments, scene, arguments.poses, arguments.depth)


if __name__ == "__main__":
    run_script(main)
