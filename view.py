#!/usr/bin/env python3
"""View a map in the browser: `python view.py -m OUT`."""

from gsplatloc.cli import run

if __name__ == "__main__":
    run("gsplatloc.cli.view")
