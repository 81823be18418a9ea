"""Download 12-Scenes and lay it out for train.py: python datasets/setup_12scenes.py --poses pgt --yes"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, only its own folder is searched

from datasets.command import SetupOptions, accept_terms  # noqa: E402
from datasets.twelve_scenes import Poses, release_archives, setup_scene  # noqa: E402
from datasets.upstream import (  # noqa: E402
    PSEUDO_GROUND_TRUTH,
    TWELVE_SCENES,
    TWELVE_SCENES_NAMES,
    TwelveScenesName,
)
from utils.console import run_script  # noqa: E402


@dataclass(frozen=True)
class Arguments(SetupOptions):
    """Download 12-Scenes and write one folder per room, `12scenes_SET_ROOM` or `pgt_12scenes_SET_ROOM`."""

    poses: Poses = "original"  # of the data set, or SfM pseudo ground truth
    scenes: tuple[TwelveScenesName, ...] = TWELVE_SCENES_NAMES  # which rooms


def main() -> None:
    arguments = tyro.cli(Arguments)
    accept_terms(arguments, TWELVE_SCENES, PSEUDO_GROUND_TRUTH)
    for scene in arguments.scenes:
        setup_scene(arguments, scene, arguments.poses)
    release_archives(arguments)


if __name__ == "__main__":
    run_script(main)
