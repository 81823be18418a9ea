"""Writes the options of each command into the documentation: MkDocs calls it for every page.

A page asks for the options of a command by the mark `<!-- options: gsplatloc train -->`. They are read from
the command's own parser, so that the page cannot differ from `--help`.
"""

import re
import sys
import warnings
from argparse import Action, ArgumentParser
from importlib import import_module
from typing import Any
from unittest import mock

import tyro

from gsplatloc.cli import COMMANDS, parsed
from gsplatloc.cli.setup import COMMANDS as SETUP_COMMANDS

_MARK = re.compile(r"<!-- options: gsplatloc ([a-z0-9 -]+) -->")
_DEFAULT = re.compile(r"\s*\((?:default: (?P<default>.*)|(?P<required>required)|repeatable)\)\s*$", re.DOTALL)


class _Parsed(Exception):
    """Raised instead of parsing: what a command would have parsed its words with."""

    def __init__(self, kind: type[Any], settings: dict[str, Any]):
        self.kind, self.settings = kind, settings


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the options of each command in the place of its mark."""
    return _MARK.sub(lambda match: options_table(match[1]), markdown)


def commands() -> dict[str, str]:
    """The module of every command, subcommands of `setup` included, by its words."""
    plain = {name: module for name, (module, _) in COMMANDS.items() if name != "setup"}
    return plain | {f"setup {name}": module for name, (module, _) in SETUP_COMMANDS.items()}


def options_table(command: str) -> str:
    """The options of a command as Markdown, a table for each group."""
    parser = _parser(commands()[command])
    groups = [group for group in parser._action_groups if any(map(_shown, group._group_actions))]
    return "\n\n".join(_group_table(group) for group in groups)


def options_of(module: str) -> set[str]:
    """Every option that a command understands, as it is written; short ones are named by their groups."""
    parser = _parser(module)
    short = (re.findall(r"(--\w+) = --", group.description or "") for group in parser._action_groups)
    return {flag for action in parser._actions for flag in action.option_strings}.union(*short)


def _parser(module: str) -> ArgumentParser:
    def capture(kind: type[Any], **settings: Any) -> None:
        raise _Parsed(kind, settings)

    with mock.patch("tyro.cli", capture), mock.patch.object(sys, "argv", ["gsplatloc"]):
        try:
            import_module(module).main(*parsed(module))
        except _Parsed as found:
            kind, settings = found.kind, found.settings
    settings.pop("args", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return tyro.extras.get_parser(kind, **settings)


def _group_table(group: Any) -> str:
    title = (group.title or "options").removesuffix(" options")
    lines = [f"**{title}**" + (f": {_cell(group.description)}" if group.description else ""), ""]
    lines += ["| option | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(_row(action) for action in group._group_actions if _shown(action))])


def _shown(action: Action) -> bool:
    return "--help" not in action.option_strings


def _row(action: Action) -> str:
    text = action.help or ""
    found = _DEFAULT.search(text)
    default = "" if found is None else "required" if found["required"] else f"`{_cell(found['default'])}`"
    flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    value = f" `{metavar}`" if metavar else ""
    return f"| {flags}{value} | {default} | {_cell(_DEFAULT.sub('', text))} |"


def _cell(text: str | None) -> str:
    """Text on one line, for a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")
