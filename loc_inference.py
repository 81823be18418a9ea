#!/usr/bin/env python3
"""Localize images in a map: `python loc_inference.py -m OUT [--queries FOLDER]`."""

from gsplatloc.cli import run

if __name__ == "__main__":
    run("gsplatloc.cli.localize")
