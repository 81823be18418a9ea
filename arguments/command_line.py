"""Parsing with tyro: flags with underscores, unknown ones refused with exit code 2."""

import argparse
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

Arguments = TypeVar("Arguments")


def parse(
    kind: type[Arguments],
    description: str,
    argv: Sequence[str] | None = None,
    default: Arguments | None = None,
) -> Arguments:
    """The dataclass `kind` from a command line; nested dataclasses become groups of flags.

    A group's flags carry its name as a prefix unless its type is `tyro.conf.OmitArgPrefixes[...]`.
    """
    chosen: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind,
        description=description,
        args=argv,
        use_underscores=True,
        config=(tyro.conf.AvoidSubcommands,),
        **chosen,
    )


def peek(flag: str, argv: Sequence[str], fallback: str) -> str:
    """The value of `--flag`, read before the full parse, which validates it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{flag}", default=fallback, nargs="?")
    try:
        value = getattr(parser.parse_known_args(list(argv))[0], flag)
    except argparse.ArgumentError:
        return fallback
    return value or fallback
