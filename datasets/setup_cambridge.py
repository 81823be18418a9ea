"""`gsplatloc setup cambridge --yes`: download Cambridge Landmarks and lay it out."""

from dataclasses import dataclass

import tyro

from gsplatloc.datasets.command import SetupOptions, accept_terms
from gsplatloc.datasets.upstream import CAMBRIDGE, CAMBRIDGE_NAMES, CambridgeName
from gsplatloc.utils.console import run_script


@dataclass(frozen=True)
class Arguments(SetupOptions):
    """Download Cambridge Landmarks and write one folder each, `Cambridge_NAME`, images 480 pixels high."""

    scenes: tuple[CambridgeName, ...] = CAMBRIDGE_NAMES  # which landmarks


def main() -> None:
    arguments = tyro.cli(Arguments, prog="gsplatloc setup cambridge")
    from gsplatloc.datasets.cambridge import (
        setup_scene,  # with torch or OpenCV, once the command line is parsed
    )

    accept_terms(arguments, CAMBRIDGE)
    for scene in arguments.scenes:
        setup_scene(arguments, scene)


if __name__ == "__main__":
    run_script(main)
