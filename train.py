#!/usr/bin/env python3
"""Make a feature splat map of a scene: `python train.py -s SCENE -m OUT [--preset cpu]`."""

from gsplatloc.cli import run

if __name__ == "__main__":
    run("gsplatloc.cli.train")
