"""Parsing with tyro: flags with underscores, unknown ones refused with exit code 2."""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from shutil import get_terminal_size
from types import NoneType
from typing import Any, TypeVar, Union, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

Arguments = TypeVar("Arguments")
_RULES = ConstructorRegistry()
_INDENT = "  "


def parse(
    kind: type[Arguments],
    description: str,
    argv: Sequence[str] | None = None,
    default: Arguments | None = None,
    examples: Sequence[str] = (),
) -> Arguments:
    """The dataclass `kind` from a command line; nested dataclasses become groups of flags.

    A group's flags carry its name as a prefix unless its type is `tyro.conf.OmitArgPrefixes[...]`. The help
    begins with the description, wrapped to the terminal, and the `examples`, a command each.
    """
    chosen: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind,
        description=_introduction(description, examples),
        args=argv,
        use_underscores=True,
        config=(tyro.conf.AvoidSubcommands,),
        registry=_RULES,
        **chosen,
    )


def _introduction(description: str, examples: Sequence[str]) -> str:
    """The lines above the options; indented, since tyro joins lines that begin with a letter."""
    lines = textwrap.wrap(description, get_terminal_size().columns - len(_INDENT))
    heading = ["\nexamples:"] if examples else []
    return "\n".join([*(_INDENT + line for line in lines), *heading, *(_INDENT + line for line in examples)])


@_RULES.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """An option that may be unset: the help names the type of its values, and `unset` as the default.

    tyro's own rule shows `{None}|INT` and `(default: None)`, which mean nothing outside of Python.
    """
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if NoneType not in get_args(info.type):
        return None
    inner: Any = Union[tuple(kinds)]  # noqa: UP007  (a union of a list)
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(inner, info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None

    def from_words(words: list[str]) -> Any:
        return None if words in (["None"], ["unset"]) else spec.instance_from_str(words)

    return replace(
        spec,
        instance_from_str=from_words,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["unset"] if value is None else spec.str_from_instance(value),
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
