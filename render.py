#!/usr/bin/env python3
"""Render a map: `python render.py -m OUT [--split path|train|test]`."""

from gsplatloc.cli import run

if __name__ == "__main__":
    run("gsplatloc.cli.render")
