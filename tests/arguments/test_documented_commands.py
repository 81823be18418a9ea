"""Every command line in the documentation is understood by the script that it is for."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from benchmarks.accuracy.command import AccuracyArguments
from benchmarks.accuracy.quality import QualityArguments
from benchmarks.demo import DemoArguments
from benchmarks.figures import FiguresArguments
from benchmarks.performance.command import PerformanceArguments
from benchmarks.performance.gate import GateArguments
from benchmarks.systems.convergence import ConvergenceArguments
from benchmarks.systems.refinement import RefinementArguments
from benchmarks.systems.rgbd import RgbdArguments
from gsplatloc.arguments.localization import parse_localize_arguments
from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.arguments.render import parse_render_arguments, parse_view_arguments
from gsplatloc.arguments.tracking import parse_tracking_arguments
from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.datasets import setup_7scenes, setup_images

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BENCHMARKS: dict[str, type[Any] | None] = {
    "accuracy": AccuracyArguments,
    "quality": QualityArguments,
    "performance": PerformanceArguments,
    "gate": GateArguments,
    "systems convergence": ConvergenceArguments,
    "systems refinement": RefinementArguments,
    "systems rgbd": RgbdArguments,
    "systems all": None,
    "demo": DemoArguments,
    "figures": FiguresArguments,
}
PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "train.py": parse_train_arguments,
    "loc_inference.py": parse_localize_arguments,
    "refine_poses.py": parse_refine_arguments,
    "track_rgbd.py": parse_tracking_arguments,
    "render.py": parse_render_arguments,
    "view.py": parse_view_arguments,
    "datasets/setup_7scenes.py": lambda words: tyro.cli(setup_7scenes.Arguments, args=words),
    "datasets/setup_images.py": lambda words: tyro.cli(setup_images.Arguments, args=words),
}


def commands() -> list[str]:
    """`python SCRIPT ...`, on lines of their own and within sentences."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [match for text in texts for match in re.findall(r"(?:^|`)python ([^`\n]+)", text, re.MULTILINE)]
    return sorted({" ".join(shlex.split(line, comments=True)) for line in found})


@pytest.mark.parametrize("command", [line for line in commands() if "--help" not in line])
def test_a_documented_command_is_understood(command: str) -> None:
    words = command.split()
    if words[:2] == ["-m", "benchmarks"]:
        length = 2 if words[2] == "systems" else 1
        arguments = BENCHMARKS[" ".join(words[2 : 2 + length])]
        assert arguments is None or tyro.cli(arguments, args=words[2 + length :])
    else:
        assert PARSERS[words[0]](words[1:])  # which ends the test for an option that it does not know
