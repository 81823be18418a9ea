#!/usr/bin/env python3
"""Render a map: `python render.py -m OUT [--split path|train|test]`."""

from gsplatloc.cli.render import main
from gsplatloc.utils.console import run_script

if __name__ == "__main__":
    run_script(main)
