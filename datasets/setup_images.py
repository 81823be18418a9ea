"""`gsplatloc setup images --input photos/ --name my_room`: make a scene of photos or a video."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsplatloc.datasets.options import MappingOptions
from gsplatloc.utils.console import run_script


@dataclass(frozen=True)
class Arguments:
    """Make a scene of photos or a video: COLMAP estimates the poses, up to an arbitrary scale."""

    input: Path  # folder of photos, or a video
    name: str  # name of the scene
    output: Path = Path("datasets")  # folder in which the scene gets a folder
    frames: int = 150  # number of frames to take from a video
    max_side: int = 1600  # pixels; larger images are shrunk
    mapping: Annotated[MappingOptions, tyro.conf.arg(name="")] = field(default_factory=MappingOptions)


def setup_images(arguments: Arguments) -> Path:
    """Make the scene unless it is complete; returns its folder."""
    # With OpenCV and COLMAP, once the command line is parsed.
    from gsplatloc.datasets.layout import building, is_complete
    from gsplatloc.datasets.photos import collect
    from gsplatloc.datasets.structure_from_motion import reconstruct

    target = arguments.output / arguments.name
    settings = {"input": str(arguments.input.resolve()), "max_side": str(arguments.max_side)}
    if is_complete(target, settings):
        return target
    with building(target, settings) as (root, scratch):
        count = collect(arguments.input, root / "images", arguments.frames, arguments.max_side)
        reconstruct(root / "images", root / "sparse" / "0", scratch, count, arguments.mapping)
    return target


def main() -> None:
    setup_images(tyro.cli(Arguments, prog="gsplatloc setup images"))


if __name__ == "__main__":
    run_script(main)
