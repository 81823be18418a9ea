"""A part of a table in a process of its own, which `gsplatloc reproduce --workers` starts.

The words are the file that describes the part, and then those of the command that started it.
"""

import sys
from pathlib import Path

from gsplatloc.arguments.reproduce import parse_reproduce_arguments
from gsplatloc.reproduction.scene_run import Part, localize_part, map_scene
from gsplatloc.reproduction.track_run import track_scene
from gsplatloc.utils import signals
from gsplatloc.utils.io import read_json


def main() -> None:
    part = read_json(Path(sys.argv[1]))
    request = parse_reproduce_arguments(sys.argv[2:]).request()
    scene, name, source = part["scene"], part["method"], Path(part["source"])
    if part["part"] == "map":
        completed = map_scene(request, name, source, scene)
    elif part["part"] == "track":
        completed = track_scene(request, name, scene, source, part["key"])
    else:
        localize_part(request, name, scene, source, Part(**part["part"]))
        completed = True
    if not completed:
        sys.exit(signals.exit_code())
