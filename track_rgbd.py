#!/usr/bin/env python3
"""Track an RGB-D sequence and map it: `python track_rgbd.py -s SCENE -m OUT [--method lm|gsplatloc]`."""

from gsplatloc.cli import run

if __name__ == "__main__":
    run("gsplatloc.cli.track")
