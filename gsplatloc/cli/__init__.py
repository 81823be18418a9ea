"""The console command `gsplatloc`: one module per subcommand, imported only when it runs.

The command line is parsed first, and the paths in it are checked: --help, wrong flags and wrong paths take a
fraction of a second. Then torch, COLMAP and the like are loaded, which takes seconds.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from gsplatloc.utils.console import EXIT_USAGE, run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import expanded
from gsplatloc.utils.waiting import adapt_to_load

# name -> (module with a `main()`, one line of help). A command is a module, a line here and one in PARSERS.
COMMANDS = {
    "map": ("gsplatloc.cli.map", "make a map of photos or a video: poses, splats, landmarks"),
    "train": ("gsplatloc.cli.train", "make a feature splat map from posed images"),
    "localize": ("gsplatloc.cli.localize", "localize images in a map"),
    "refine": ("gsplatloc.cli.refine", "refine poses of another estimator in a map"),
    "track": ("gsplatloc.cli.track", "track an RGB-D sequence and map it"),
    "render": ("gsplatloc.cli.render", "render a map to images and a film"),
    "view": ("gsplatloc.cli.view", "view a map in the browser"),
    "from-splat": ("gsplatloc.cli.from_splat", "make a map of a splat without photographs"),
    "train-matcher": ("gsplatloc.cli.train_matcher", "train the network that describes splats"),
    "compare": ("gsplatloc.cli.compare", "compare two localizations of the same images"),
    "export": ("gsplatloc.cli.export", "write a map as a .spz, .glb, .splat, ... for other programs"),
    "reproduce": ("gsplatloc.cli.reproduce", "make a table of a paper again, beside the published figures"),
    "setup": ("gsplatloc.cli.setup", "prepare a data set: 7scenes, 12scenes, cambridge, images, room"),
    "completion": ("gsplatloc.cli.completion", "print the script that completes commands in bash or zsh"),
}

# Module of a command -> function that parses its command line, in a module that loads neither torch nor
# numpy. A command that is not here parses in its own `main`.
PARSERS = {
    "gsplatloc.cli.map": "gsplatloc.arguments.map.parse_map_arguments",
    "gsplatloc.cli.train": "gsplatloc.arguments.training.parse_train_arguments",
    "gsplatloc.cli.localize": "gsplatloc.arguments.localization.parse_localize_arguments",
    "gsplatloc.cli.refine": "gsplatloc.arguments.refinement.parse_refine_arguments",
    "gsplatloc.cli.track": "gsplatloc.arguments.tracking.parse_tracking_arguments",
    "gsplatloc.cli.render": "gsplatloc.arguments.render.parse_render_arguments",
    "gsplatloc.cli.view": "gsplatloc.arguments.render.parse_view_arguments",
    "gsplatloc.cli.from_splat": "gsplatloc.arguments.from_splat.parse_from_splat_arguments",
    "gsplatloc.cli.train_matcher": "gsplatloc.arguments.train_matcher.parse_train_matcher_arguments",
    "gsplatloc.cli.export": "gsplatloc.arguments.export.parse_export_arguments",
    "gsplatloc.cli.compare": "gsplatloc.arguments.comparison.parse_compare_arguments",
    "gsplatloc.cli.completion": "gsplatloc.arguments.completion.parse_completion_arguments",
    "gsplatloc.cli.reproduce": "gsplatloc.arguments.reproduce.parse_reproduce_arguments",
}
# Modules that load nothing themselves: they parse, or run one of several commands, before they import more.
LIGHT = ("gsplatloc.cli.completion", "gsplatloc.cli.setup", "gsplatloc.datasets.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the subcommand that `argv` (default: `sys.argv[1:]`) starts with, and exit with its code."""
    words = list(sys.argv[1:] if argv is None else argv)
    dispatch("gsplatloc", COMMANDS, words)


def dispatch(program: str, commands: dict[str, tuple[str, str]], words: list[str]) -> None:
    """Run one of `commands` (name -> module, help) with the words after its name, as `PROGRAM NAME`."""
    if words[:1] in (["-h"], ["--help"]):
        run_script(lambda: print(usage(program, commands), flush=True))
    if words[:1] == ["--version"]:
        from gsplatloc.utils.version import version

        run_script(lambda: print(f"{program} {version()}", flush=True))
    if not words or words[0] not in commands:
        found = repr(words[0]) if words else "none"
        similar = get_close_matches(words[0], commands, 1) if words else []
        hint = f": did you mean {similar[0]}?" if similar else ""
        print(usage(program, commands), file=sys.stderr)
        print(f"\nerror: expected a command of this list, found {found}{hint}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    sys.argv = [f"{program} {words[0]}", *words[1:]]
    run(commands[words[0]][0])


def run(module: str) -> NoReturn:
    """Run the `main` of a command's module and exit; signals end its imports, too, which take seconds."""

    def main() -> None:
        sys.argv[1:] = [_with_home(word) for word in sys.argv[1:]]
        arguments = parsed(module)
        if not module.startswith(LIGHT):
            # First of all, while no thread of another library exists that could receive a signal meanwhile.
            import_module("gsplatloc.utils.colmap")
        import_module(module).main(*arguments)

    adapt_to_load()
    run_script(main)


def parsed(module: str) -> tuple[Any, ...]:
    """The arguments of the `main` of a command's module: the parsed command line, or nothing."""
    if module not in PARSERS:
        return ()
    name, _, function = PARSERS[module].rpartition(".")
    arguments = getattr(import_module(name), function)()
    if hasattr(arguments, "check"):
        arguments.check()
    return (arguments,)


def _with_home(word: str) -> str:
    """A word of the command line with the home folder for `~`, which shells leave in `--flag=~/folder`.

    Raises `GSplatLocError` for an empty value, as of an unset variable: it would be the current folder.
    """
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "=", word)
    if equals and not value:
        raise GSplatLocError(f"expected a value for {flag or 'each option'}, found an empty one: pass it")
    return word.removesuffix(value) + str(expanded(value)) if value.startswith("~") else word


def usage(program: str, commands: dict[str, tuple[str, str]]) -> str:
    """The help text of a command that has subcommands."""
    width = max(len(name) for name in commands)  # `map` is a module of this package
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in commands.items()]
    return "\n".join([f"usage: {program} COMMAND [options]", "", "commands:", *lines, "",
                      f"{program} COMMAND --help lists the options of a command."])  # fmt: skip
