"""`gsplatloc setup room --output output/room`: make a synthetic room with known poses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.datasets.options import RoomOptions
from gsplatloc.utils.console import run_script
from gsplatloc.utils.locks import output_folder


@dataclass(frozen=True)
class Arguments:
    """Make a furnished room with known geometry, in the train/ and test/ layout."""

    output: Path  # folder to write
    room: Annotated[RoomOptions, tyro.conf.arg(name="")] = field(default_factory=RoomOptions)


def main() -> None:
    arguments = tyro.cli(Arguments, prog="gsplatloc setup room", use_underscores=True)
    from gsplatloc.datasets.room import make_room  # with torch or OpenCV, once the command line is parsed

    with output_folder(arguments.output):
        make_room(arguments.output, arguments.room)
    print(f"{arguments.room.train} training and {arguments.room.test} test views in {arguments.output}")


if __name__ == "__main__":
    run_script(main)
