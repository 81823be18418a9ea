"""Download Cambridge Landmarks and lay it out for train.py: python datasets/setup_cambridge.py --yes"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, only its own folder is searched

from datasets.cambridge import setup_scene  # noqa: E402
from datasets.command import SetupOptions, accept_terms  # noqa: E402
from datasets.upstream import CAMBRIDGE, CAMBRIDGE_NAMES, CambridgeName  # noqa: E402
from utils.console import run_script  # noqa: E402


@dataclass(frozen=True)
class Arguments(SetupOptions):
    """Download Cambridge Landmarks and write one folder each, `Cambridge_NAME`, images 480 pixels high."""

    scenes: tuple[CambridgeName, ...] = CAMBRIDGE_NAMES  # which landmarks


def main() -> None:
    arguments = tyro.cli(Arguments)
    accept_terms(arguments, CAMBRIDGE)
    for scene in arguments.scenes:
        setup_scene(arguments, scene)


if __name__ == "__main__":
    run_script(main)
