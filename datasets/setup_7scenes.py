"""Download 7-Scenes and lay it out for train.py: python datasets/setup_7scenes.py --poses pgt --yes"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, only its own folder is searched

from datasets.command import SetupOptions, accept_terms  # noqa: E402
from datasets.seven_scenes import Depth, Poses, setup_scene  # noqa: E402
from datasets.upstream import (  # noqa: E402
    PSEUDO_GROUND_TRUTH,
    SEVEN_SCENES,
    SEVEN_SCENES_NAMES,
    SevenScenesName,
)
from utils.console import run_script  # noqa: E402


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
