"""`gsplatloc setup 12scenes --poses pgt --yes`: download 12-Scenes and lay it out for mapping."""

from dataclasses import dataclass

import tyro

from gsplatloc.datasets.command import SetupOptions, accept_terms
from gsplatloc.datasets.options import TwelveScenesPoses
from gsplatloc.datasets.upstream import (
    PSEUDO_GROUND_TRUTH,
    TWELVE_SCENES,
    TWELVE_SCENES_NAMES,
    TwelveScenesName,
)
from gsplatloc.utils.console import run_script


@dataclass(frozen=True)
class Arguments(SetupOptions):
    """Download 12-Scenes and write one folder per room, `12scenes_SET_ROOM` or `pgt_12scenes_SET_ROOM`."""

    poses: TwelveScenesPoses = "original"  # those of the data set, or SfM pseudo ground truth (pgt)
    scenes: tuple[TwelveScenesName, ...] = TWELVE_SCENES_NAMES  # which rooms


def main() -> None:
    arguments = tyro.cli(Arguments, prog="gsplatloc setup 12scenes")
    from gsplatloc.datasets.twelve_scenes import (  # with torch, once the command line is parsed
        release_archives,
        setup_scene,
    )

    accept_terms(arguments, TWELVE_SCENES, PSEUDO_GROUND_TRUTH)
    for scene in arguments.scenes:
        setup_scene(arguments, scene, arguments.poses)
    release_archives(arguments)


if __name__ == "__main__":
    run_script(main)
