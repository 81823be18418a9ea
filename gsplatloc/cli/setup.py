"""Prepare a data set: `gsplatloc setup 7scenes | 12scenes | cambridge | images | room | building`."""

import sys

from gsplatloc.cli import dispatch

COMMANDS = {
    "7scenes": ("gsplatloc.datasets.setup_7scenes", "download 7-Scenes and convert its layout"),
    "12scenes": ("gsplatloc.datasets.setup_12scenes", "download 12-Scenes and convert its layout"),
    "cambridge": (
        "gsplatloc.datasets.setup_cambridge",
        "download Cambridge Landmarks and convert its layout",
    ),
    "images": ("gsplatloc.datasets.setup_images", "compute the poses of photos or of a video with COLMAP"),
    "room": ("gsplatloc.datasets.make_room", "make a synthetic room with known poses"),
    "building": ("gsplatloc.datasets.make_building", "make a synthetic building of look-alike rooms"),
}


def main() -> None:
    dispatch("gsplatloc setup", COMMANDS, sys.argv[1:])
