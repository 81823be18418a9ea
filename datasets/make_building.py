"""`gsplatloc setup building --output output/building`: make a synthetic building with known poses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.datasets.options import BuildingOptions
from gsplatloc.utils.console import run_script
from gsplatloc.utils.locks import output_folder


@dataclass(frozen=True)
class Arguments:
    """Make a building of look-alike furnished rooms along a corridor, in the train/ and test/ layout."""

    output: Path  # folder to write
    building: Annotated[BuildingOptions, tyro.conf.arg(name="")] = field(default_factory=BuildingOptions)
    quiet: bool = False  # no progress bar


def main() -> None:
    arguments = tyro.cli(Arguments, prog="gsplatloc setup building", use_underscores=True)
    from gsplatloc.datasets.building import make_building  # it loads OpenCV, which --help does not need

    with output_folder(arguments.output):
        train, test = make_building(arguments.output, arguments.building, arguments.quiet)
    print(f"{train} training and {test} test views of {arguments.building.rooms} rooms in {arguments.output}")


if __name__ == "__main__":
    run_script(main)
