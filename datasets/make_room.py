"""Make a synthetic room to try everything on: python datasets/make_room.py --output output/room"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else only this folder is searched

from datasets.room import RoomOptions, make_room  # noqa: E402
from utils.errors import GSplatLocError  # noqa: E402


@dataclass(frozen=True)
class Arguments:
    """Make a furnished room with known geometry, in the train/ and test/ layout."""

    output: Path  # folder to write
    room: Annotated[RoomOptions, tyro.conf.arg(name="")] = field(default_factory=RoomOptions)


def main() -> int:
    arguments = tyro.cli(Arguments)
    try:
        make_room(arguments.output, arguments.room)
    except GSplatLocError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.room.train} training and {arguments.room.test} test views in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
