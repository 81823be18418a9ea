"""A part of a table in a process of its own, which `gsplatloc reproduce --workers` starts.

The words are the file that describes the part, and then those of the command that started it.
"""

import sys
from pathlib import Path

from gsplatloc.arguments.reproduce import parse_reproduce_arguments
from gsplatloc.reproduction.request import Step
from gsplatloc.reproduction.scene_run import Part, localize_part, map_scene
from gsplatloc.reproduction.track_run import track_scene
from gsplatloc.utils import signals
from gsplatloc.utils.io import read_json


def main() -> None:
    task = read_json(Path(sys.argv[1]))
    request, part = parse_reproduce_arguments(sys.argv[2:]).request(), task["part"]
    step, completed = Step(**task["step"] | {"source": Path(task["step"]["source"])}), True
    if part == "map":
        completed = map_scene(request, step)
    elif part == "track":
        completed = track_scene(request, step)
    else:
        localize_part(request, step, Part(**part))
    if not completed:
        sys.exit(signals.exit_code())
