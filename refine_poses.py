#!/usr/bin/env python3
"""Refine the poses of any estimator in a map: `python refine_poses.py -m OUT --poses poses.txt`."""

from gsplatloc.cli import run

if __name__ == "__main__":
    run("gsplatloc.cli.refine")
