#!/usr/bin/env python3
"""View a map in the browser: `python view.py -m OUT`."""

from gsplatloc.cli.view import main
from gsplatloc.utils.console import run_script

if __name__ == "__main__":
    run_script(main)
