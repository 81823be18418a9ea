"""The options of initial poses and refinements as groups of flags, derived from what is registered."""

from dataclasses import field, make_dataclass
from functools import cache
from typing import Any, TypeVar

from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.refine import REFINERS
from gsplatloc.utils.registry import Entry, NoOptions

Arguments = TypeVar("Arguments")


def _entries() -> list[Entry[Any]]:
    """The methods that have options."""
    entries: list[Entry[Any]] = [*INITIAL_POSES.entries(), *REFINERS.entries()]
    return [entry for entry in entries if entry.options is not NoOptions]


@cache
def with_method_options(arguments: type[Arguments]) -> type[Arguments]:
    """The dataclass `arguments` with one more field a method, its options: flags `--NAME.FIELD`."""
    members = [
        (entry.name, entry.options, field(default_factory=entry.options, metadata={"help": entry.help}))
        for entry in _entries()
    ]
    kind = make_dataclass(arguments.__name__, members, bases=(arguments,), frozen=True)
    kind.__doc__ = arguments.__doc__
    return kind


def method_options(arguments: Any) -> tuple[Any, ...]:
    """The options objects of the methods in parsed `arguments`; none in those that were not extended."""
    return tuple(getattr(arguments, entry.name) for entry in _entries() if hasattr(arguments, entry.name))
