"""Flags of registered methods: one per option, with its help. Plugins: test_loc_inference.py."""

from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from gsplatloc.arguments.localization import SHORT_FLAGS as LOCALIZE_FLAGS
from gsplatloc.arguments.localization import parse_localize_arguments
from gsplatloc.arguments.refinement import SHORT_FLAGS as REFINE_FLAGS
from gsplatloc.arguments.refinement import parse_refine_arguments
from gsplatloc.arguments.stages import expanded
from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.matching.images import IMAGE_MATCHERS
from gsplatloc.localization.refine import REFINERS
from gsplatloc.localization.refine.members import GscprOptions
from gsplatloc.utils.errors import GSplatLocError

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


def test_the_matchers_are_listed_and_the_options_are_of_their_own_type(help_of: Help) -> None:
    text = help_of(parse_localize_arguments)
    for entry in IMAGE_MATCHERS.entries():
        assert f"{entry.name} ({entry.help})" in text
    assert "renderings, each at the pose of the last one" in text  # of another option
    settings = parse_localize_arguments(["-m", "map", "--gscpr.matcher", "roma"]).options().settings
    assert [type(item) for item in settings if isinstance(item, GscprOptions)] == [GscprOptions]
    assert GscprOptions(matcher="roma") in settings


def test_initial_poses_are_named_with_what_they_do(help_of: Help) -> None:
    text = help_of(parse_localize_arguments)
    assert f"landmarks ({INITIAL_POSES['landmarks'].help})" in text
    assert "given (" not in text  # loc_inference.py has no flag that gives poses


def test_initial_is_before_its_short_form(help_of: Help) -> None:
    text = help_of(parse_localize_arguments)
    assert text.index("--initial") < text.index("--start")


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
    words = ["--warp_lr", "0.1", "--warp-iters=9", "--queries", "..warp_lr", "a=b"]
    long = ["--warp.lr", "0.1", "--warp.iterations=9", "--queries", "..warp_lr", "a=b"]
    assert expanded(words, LOCALIZE_FLAGS) == long


def test_a_method_may_not_be_called_like_another_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REFINERS._entries, "stages", replace(REFINERS["lm"], name="stages"))
    with pytest.raises(GSplatLocError, match="found 'stages': rename"):
        parse_localize_arguments(["-m", "map"])
