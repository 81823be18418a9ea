#!/usr/bin/env python3
"""Localize images in a map: `python loc_inference.py -m OUT [--queries FOLDER]`."""

from gsplatloc.cli.localize import main
from gsplatloc.utils.console import run_script

if __name__ == "__main__":
    run_script(main)
