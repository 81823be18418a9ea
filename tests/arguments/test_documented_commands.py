"""Every command line in the documentation is understood by the script that it is for."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from benchmarks import accuracy, convergence, exposure, map_quality, pose_refinement, rgbd, suite, systems
from gsplatloc.arguments.localization import parse_localize_arguments
from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.arguments.render import parse_render_arguments, parse_view_arguments
from gsplatloc.arguments.tracking import parse_tracking_arguments
from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.datasets import setup_7scenes, setup_images

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/systems.md", "docs/results.md", "docs/performance.md"]
PARSERS: dict[str, Callable[[list[str]], Any]] = {
    "train.py": parse_train_arguments,
    "loc_inference.py": parse_localize_arguments,
    "refine_poses.py": parse_refine_arguments,
    "track_rgbd.py": parse_tracking_arguments,
    "render.py": parse_render_arguments,
    "view.py": parse_view_arguments,
    "datasets/setup_7scenes.py": lambda words: tyro.cli(setup_7scenes.Arguments, args=words),
    "datasets/setup_images.py": lambda words: tyro.cli(setup_images.Arguments, args=words),
    "benchmarks/accuracy.py": lambda words: tyro.cli(accuracy.AccuracyArguments, args=words),
    "benchmarks/convergence.py": lambda words: tyro.cli(convergence.ConvergenceArguments, args=words),
    "benchmarks/exposure.py": lambda words: tyro.cli(exposure.ExposureArguments, args=words),
    "benchmarks/map_quality.py": lambda words: tyro.cli(map_quality.MapQualityArguments, args=words),
    "benchmarks/pose_refinement.py": lambda words: tyro.cli(pose_refinement.RefinementArguments, args=words),
    "benchmarks/rgbd.py": lambda words: tyro.cli(rgbd.RgbdArguments, args=words),
    "benchmarks/suite.py": lambda words: tyro.cli(suite.SuiteArguments, args=words),
    "benchmarks/systems.py": lambda words: tyro.cli(systems.SystemsArguments, args=words),
}


def commands() -> list[str]:
    """`python SCRIPT ...`, on lines of their own and within sentences."""
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    found = [match for text in texts for match in re.findall(r"(?:^|`)python ([^`\n]+)", text, re.MULTILINE)]
    return sorted({" ".join(shlex.split(line, comments=True)) for line in found})


def script_of(words: list[str]) -> tuple[str, list[str]]:
    """The file that `python WORDS` runs, and what it is told: `-m a.b` is a/b.py."""
    if words[0] == "-m":
        return words[1].replace(".", "/") + ".py", words[2:]
    return words[0], words[1:]


@pytest.mark.parametrize("command", [line for line in commands() if "--help" not in line])
def test_a_documented_command_is_understood(command: str) -> None:
    script, words = script_of(command.split())
    assert PARSERS[script](words)  # which ends the test for an option that it does not know


@pytest.mark.parametrize("part", systems.PARTS)
def test_the_systems_pages_own_commands_are_understood(part: systems.Part) -> None:
    script, words = script_of(systems.commands(systems.SystemsArguments())[part])
    assert PARSERS[script]([*words, "figures.json"])


@pytest.mark.parametrize("part", systems.PARTS)
def test_the_systems_page_has_a_place_for_every_table(part: systems.Part) -> None:
    page = systems.SystemsArguments().page.read_text(encoding="utf-8")
    assert [page.count(f"<!-- {part}: {edge} -->") for edge in ("begin", "end")] == [1, 1]
