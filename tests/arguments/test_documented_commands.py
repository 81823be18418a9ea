"""Every command line in the documentation is understood by the script that it is for."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from benchmarks.accuracy.command import AccuracyArguments
from benchmarks.accuracy.hard import HardArguments
from benchmarks.accuracy.measure import QualityArguments
from benchmarks.building import BuildingArguments
from benchmarks.cluster import ClusterArguments
from benchmarks.demo import DemoArguments
from benchmarks.figures import FiguresArguments
from benchmarks.performance.busy import BusyArguments
from benchmarks.performance.command import PerformanceArguments
from benchmarks.performance.gate import GateArguments
from benchmarks.systems.convergence import ConvergenceArguments
from benchmarks.systems.photos import PhotosArguments
from benchmarks.systems.refinement import RefinementArguments
from benchmarks.systems.rgbd import RgbdArguments
from benchmarks.systems.rough_poses import RoughPosesArguments
from benchmarks.systems.splats import SplatsArguments
from gsplatloc.arguments.comparison import parse_compare_arguments
from gsplatloc.arguments.completion import parse_completion_arguments
from gsplatloc.arguments.export import parse_export_arguments
from gsplatloc.arguments.from_splat import parse_from_splat_arguments
from gsplatloc.arguments.localization import parse_localize_arguments
from gsplatloc.arguments.map import parse_map_arguments
from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.arguments.render import parse_render_arguments, parse_view_arguments
from gsplatloc.arguments.reproduce import parse_reproduce_arguments
from gsplatloc.arguments.tracking import parse_tracking_arguments
from gsplatloc.arguments.train_matcher import parse_train_matcher_arguments
from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.datasets import make_building, make_room, setup_7scenes, setup_images

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BENCHMARKS: dict[str, type[Any] | None] = {
    "accuracy": AccuracyArguments,
    "hard": HardArguments,
    "quality": QualityArguments,
    "performance": PerformanceArguments,
    "gate": GateArguments,
    "systems convergence": ConvergenceArguments,
    "systems refinement": RefinementArguments,
    "systems rgbd": RgbdArguments,
    "systems splats": SplatsArguments,
    "systems photos": PhotosArguments,
    "systems rough_poses": RoughPosesArguments,
    "systems all": None,
    "building": BuildingArguments,
    "cluster": ClusterArguments,
    "busy": BusyArguments,
    "demo": DemoArguments,
    "figures": FiguresArguments,
}
PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "map": parse_map_arguments,
    "train": parse_train_arguments,
    "localize": parse_localize_arguments,
    "refine": parse_refine_arguments,
    "track": parse_tracking_arguments,
    "render": parse_render_arguments,
    "view": parse_view_arguments,
    "compare": parse_compare_arguments,
    "completion": parse_completion_arguments,
    "export": parse_export_arguments,
    "reproduce": parse_reproduce_arguments,
    "from-splat": parse_from_splat_arguments,
    "train-matcher": parse_train_matcher_arguments,
    "setup 7scenes": lambda words: tyro.cli(setup_7scenes.Arguments, args=words),
    "setup images": lambda words: tyro.cli(setup_images.Arguments, args=words),
    "setup room": lambda words: tyro.cli(make_room.Arguments, args=words),
    "setup building": lambda words: tyro.cli(make_building.Arguments, args=words),
}
SCRIPTS = {
    "train.py": "train",
    "loc_inference.py": "localize",
    "refine_poses.py": "refine",
    "track_rgbd.py": "track",
    "render.py": "render",
    "view.py": "view",
    "datasets/setup_7scenes.py": "setup 7scenes",
    "datasets/setup_images.py": "setup images",
}
GROUPS = ("setup", "systems")  # commands with subcommands


def commands() -> list[str]:
    """`python SCRIPT ...` on lines of their own and within sentences, `gsplatloc NAME ...` on lines."""
    pattern = r"(?:^|`)python ([^`\n]+)|^(gsplatloc [a-z][^\n]*)"
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [a or b for text in texts for a, b in re.findall(pattern, text, re.MULTILINE)]
    lines = {" ".join(shlex.split(line, comments=True)) for line in found}
    return sorted(line for line in lines if "--help" not in line and "COMMAND" not in line)


def split_command(command: str) -> tuple[str, str, list[str]]:
    """What a command runs: "benchmarks" or "gsplatloc", the name of the subcommand, and its arguments."""
    words = command.removeprefix("-m ").split()
    if words[0] in SCRIPTS:
        return "gsplatloc", SCRIPTS[words[0]], words[1:]
    end = 3 if words[1] in GROUPS else 2
    return words[0], " ".join(words[1:end]), words[end:]


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_is_understood(command: str) -> None:
    program, name, words = split_command(command)
    if program == "benchmarks":
        arguments = BENCHMARKS[name]
        assert arguments is None or tyro.cli(arguments, args=words)
    else:
        assert PARSERS[name](words)  # which ends the test for an option that it does not know
