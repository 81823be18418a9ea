"""Flags of registered methods: one per option, with its help; methods of a plugin like all others."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from gsplatloc.arguments.localization import SHORT_FLAGS as LOCALIZE_FLAGS
from gsplatloc.arguments.localization import parse_localize_arguments
from gsplatloc.arguments.refinement import SHORT_FLAGS as REFINE_FLAGS
from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.arguments.stages import expanded
from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.refine import REFINERS

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = '''
"""A refiner of somebody else."""

from dataclasses import dataclass, replace

from gsplatloc.localization.refine import REFINERS


@dataclass(frozen=True)
class NudgeOptions:
    """How a pose is moved."""

    shift: float = 0.25  # metres along the optical axis
    twice: bool = False  # move it two times


class Nudge:
    """`Refiner` that moves every pose."""

    name = "nudge"

    def __init__(self, options):
        self.options = options

    def refine(self, query, splat_map, initial):
        pose = initial.cam_from_world.clone()
        pose[2, 3] += self.options.shift
        return replace(initial, cam_from_world=pose)


@REFINERS.register("nudge", NudgeOptions, "moves every pose")
def make(options, context):
    return Nudge(options)
'''


Help = Callable[[Callable[[list[str]], object]], str]


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Help:
    """The help text of a parser in one line."""
    monkeypatch.setenv("COLUMNS", "100")  # a wide terminal has two columns

    def read(parse: Callable[[list[str]], object]) -> str:
        with pytest.raises(SystemExit):
            parse(["--help"])
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    return read


@pytest.mark.parametrize("parse", [parse_localize_arguments, parse_refine_arguments])
def test_help_names_every_refinement_and_every_option_of_it(parse, help_of: Help) -> None:
    text = help_of(parse)
    for entry in REFINERS.entries():
        assert f"{entry.name} ({entry.help})" in text
        for item in fields(entry.options):
            assert f"--{entry.name}.{item.name}" in text


def test_initial_poses_are_named_with_what_they_do(help_of: Help) -> None:
    text = help_of(parse_localize_arguments)
    assert f"landmarks ({INITIAL_POSES['landmarks'].help})" in text
    assert "given (" not in text  # loc_inference.py has no flag that gives poses


def test_common_flags_come_before_those_of_the_methods(help_of: Help) -> None:
    text = help_of(parse_localize_arguments)
    common = ("--model_path", "--queries", "--stages", "--focal", "--device")
    assert max(text.index(flag) for flag in common) < text.index("--landmarks.")


def test_no_method_adds_positional_subcommands(help_of: Help) -> None:
    assert "usage: " in (text := help_of(parse_localize_arguments))
    assert text.split("Localize images")[0].endswith("[-h] [OPTIONS] ")


@pytest.mark.parametrize(
    ("parse", "flags"), [(parse_localize_arguments, LOCALIZE_FLAGS), (parse_refine_arguments, REFINE_FLAGS)]
)
def test_every_short_flag_is_in_the_help_beside_what_it_stands_for(
    parse, flags: dict[str, str], help_of: Help
) -> None:
    text = help_of(parse)
    assert all(f"{short} = {long}" in text for short, long in flags.items())


def test_short_flags_are_replaced_with_values_and_hyphens() -> None:
    words = ["--warp_lr", "0.1", "--warp-iters=9", "--queries", "a=b"]
    assert expanded(words, LOCALIZE_FLAGS) == ["--warp.lr", "0.1", "--warp.iterations=9", "--queries", "a=b"]


def run_with_plugin(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "nudge.py").write_text(PLUGIN)
    command = [sys.executable, str(ROOT / "loc_inference.py"), *words]
    environment = {**os.environ, "GSPLATLOC_PLUGINS": str(tmp_path / "nudge.py"), "COLUMNS": "100"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_plugins_stage_and_flags_are_in_the_help(tmp_path: Path) -> None:
    text = " ".join(run_with_plugin(tmp_path, "--help").stdout.replace("│", " ").split())
    assert "nudge (moves every pose)" in text
    assert "--nudge.shift FLOAT metres along the optical axis (default: 0.25)" in text
    assert "--nudge.twice, --nudge.no_twice" in text


def test_a_wrong_flag_of_a_plugin_is_wrong_usage(tmp_path: Path) -> None:
    assert run_with_plugin(tmp_path, "-m", "map", "--nudge.shift", "far").returncode == 2
