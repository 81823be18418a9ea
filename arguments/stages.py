"""The options of initial poses and refinements as flags `--NAME.FIELD`, derived from what is registered."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Annotated, Any, get_type_hints

import tyro

from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.matching.images import IMAGE_MATCHERS
from gsplatloc.localization.refine import REFINERS
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import Entry, NoOptions, Registry


@dataclass(frozen=True)
class ComputationArguments:
    """How much is computed, and where."""

    iteration: int | None = None
    """iteration of the map; unset = the latest"""
    top_k: int | None = None
    """maximum number of keypoints per image; unset = 2048"""
    max_side: int | None = None
    """pixels; larger images are shrunk to it for localization; unset = the size of the mapping images"""
    ransac_iters: int | None = None
    """maximum number of RANSAC samples of all stages but lm; unset = 20,000, gscpr 5,000, gsvisloc 100,000"""
    device: str = "auto"
    """device of the networks and the map: auto (a GPU where one can be used), cpu, cuda or cuda:N"""
    quiet: bool = False
    """print nothing but errors"""

    def applied(self, options: Any) -> Any:
        """The options of a method with the limits that hold for every method."""
        if self.ransac_iters is not None and hasattr(options, "pnp"):
            options = replace(options, pnp=replace(options.pnp, max_iterations=self.ransac_iters))
        return options


def with_method_options(
    arguments: type[Any], short_flags: Mapping[str, str], help_texts: Mapping[str, str]
) -> type[Any]:
    """The dataclass `arguments` with one more field per method that has options: flags `--NAME.FIELD`.

    The help of a method names those of `short_flags` (`--flag` -> `--NAME.FIELD`) that concern it;
    `help_texts` gives the help of fields of `arguments`.
    """
    members: list[tuple[str, Any, Any]] = []
    taken = {item.name for item in fields(arguments)}
    for entry in _entries():
        if entry.name in taken:
            raise GSplatLocError(
                f"expected a method's name that is no other option, found {entry.name!r}: rename the method"
            )
        taken.add(entry.name)
        short = [
            f"{flag} = {long}" for flag, long in short_flags.items() if long.startswith(f"--{entry.name}.")
        ]
        text = f"{entry.help}. Short flags: {', '.join(short)}" if short else entry.help
        options = _with_matchers(entry.options)
        members.append((entry.name, options, field(default_factory=options, metadata={"help": text})))
    return with_help(arguments, help_texts, members)


def with_help(
    options: type[Any], help_texts: Mapping[str, str], more: Sequence[tuple[str, Any, Any]] = ()
) -> type[Any]:
    """The dataclass `options` with other help of some fields, and `more` fields (name, type, default)."""
    hints = get_type_hints(options, include_extras=True)
    members = [
        (item.name, Annotated[hints[item.name], tyro.conf.arg(help=help_texts[item.name])], item.default)
        for item in fields(options)
        if item.name in help_texts
    ]
    extended = make_dataclass(options.__name__, [*members, *more], bases=(options,), frozen=True)
    for name in ("__doc__", "__module__", "__qualname__", "__firstlineno__"):
        if name in vars(options):  # by the last three tyro finds the comments that are the help of the others
            setattr(extended, name, vars(options)[name])
    return extended


def expanded(argv: Sequence[str] | None, short_flags: Mapping[str, str]) -> list[str]:
    """A command line, `sys.argv` by default, with `--NAME.FIELD` in place of short flags."""
    words = []
    for word in sys.argv[1:] if argv is None else argv:
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):  # tyro takes both --warp-lr and --warp_lr
            flag = short_flags.get("--" + flag[2:].replace("-", "_"), flag)
        words.append(flag + equals + value)
    return words


def method_options(arguments: Any) -> tuple[Any, ...]:
    """The options objects of the methods in parsed `arguments`; none in those that were not extended."""
    return tuple(
        without_help(getattr(arguments, entry.name), entry.options)
        for entry in _entries()
        if hasattr(arguments, entry.name)
    )


def without_help(parsed: Any, options: type[Any]) -> Any:
    """The object of the dataclass `options` with the values of an object of `with_help(options, ...)`."""
    return options(**{item.name: getattr(parsed, item.name) for item in fields(options) if item.init})


def listed(registry: Registry[Any], without: str = "") -> str:
    """The registered methods for a help text: `name (what it does), ...`."""
    return ", ".join(f"{entry.name} ({entry.help})" for entry in registry.entries() if entry.name != without)


def _with_matchers(options: type[Any]) -> type[Any]:
    """Options whose field `matcher`, where they have one, lists the image matchers in its help."""
    if getattr(options(), "matcher", None) not in IMAGE_MATCHERS.names():
        return options
    text = f"method that matches the query image with the rendering: {listed(IMAGE_MATCHERS)} (paper: MASt3R)"
    return with_help(options, {"matcher": text})


def _entries() -> list[Entry[Any]]:
    """The methods that have options."""
    entries: list[Entry[Any]] = [*INITIAL_POSES.entries(), *REFINERS.entries()]
    return [entry for entry in entries if entry.options is not NoOptions]
