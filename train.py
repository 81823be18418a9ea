#!/usr/bin/env python3
"""Make a feature splat map of a scene: `python train.py -s SCENE -m OUT [--preset cpu]`."""

from gsplatloc.cli.train import main
from gsplatloc.utils.console import run_script

if __name__ == "__main__":
    run_script(main)
