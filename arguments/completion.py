"""The command line of gsplatloc completion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gsplatloc.arguments.command_line import parse


@dataclass(frozen=True)
class CompletionArguments:
    """The options of gsplatloc completion."""

    shell: Literal["bash", "zsh"] = "bash"
    """shell that reads the script"""


def parse_completion_arguments(argv: Sequence[str] | None = None) -> CompletionArguments:
    """The arguments of a command line, `sys.argv` by default; wrong usage exits with code 2."""
    return parse(
        CompletionArguments,
        "Write a script by which a shell completes commands and options: source <(gsplatloc completion).",
        argv,
    )
