"""Prepare a data set: `gsplatloc setup 7scenes | 12scenes | cambridge | images | room`."""

import sys

from gsplatloc.cli import dispatch

COMMANDS = {
    "7scenes": ("gsplatloc.datasets.setup_7scenes", "download 7-Scenes and lay it out"),
    "12scenes": ("gsplatloc.datasets.setup_12scenes", "download 12-Scenes and lay it out"),
    "cambridge": ("gsplatloc.datasets.setup_cambridge", "download Cambridge Landmarks and lay it out"),
    "images": ("gsplatloc.datasets.setup_images", "pose own photos or a video with COLMAP"),
    "room": ("gsplatloc.datasets.make_room", "make a synthetic room with known poses"),
}


def main() -> None:
    dispatch("gsplatloc setup", COMMANDS, sys.argv[1:])
