"""Families of interchangeable methods (refiners, initial poses, extractors, matchers, readers), by name.

A member of a family is one file that calls `Registry.register`. The modules of the family's package are
imported when a member is first asked for. A third person's file is imported at the same time, if it is an
entry point (group `gsplatloc.plugins`) of an installed distribution, or if the environment variable
GSPLATLOC_PLUGINS lists it: names of modules or paths of .py files, separated by commas.
"""

import importlib
import importlib.util
import os
import pkgutil
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from gsplatloc.utils.errors import GSplatLocError

Member = TypeVar("Member")
PLUGIN_GROUP = "gsplatloc.plugins"  # entry points: modules that register members when they are imported
PLUGIN_VARIABLE = "GSPLATLOC_PLUGINS"


@dataclass(frozen=True)
class NoOptions:
    """The options of a member that has none."""


@dataclass(frozen=True)
class Entry(Generic[Member]):
    """One member of a family."""

    name: str
    help: str  # one line
    options: type[Any]  # frozen dataclass, whose defaults are the member's
    make: Callable[..., Member]  # its arguments are fixed by the family, often (options, context)
    priority: int = 0  # where a family tries one member after another, the highest goes first


class Registry(Generic[Member]):
    """The members of one family.

    >>> REFINERS = Registry[Refiner]("refinement", "gsplatloc.localization.refine")
    >>> @REFINERS.register("lm", LmOptions, "direct alignment, Levenberg-Marquardt")
    ... def make(options: LmOptions, context: StageContext) -> Refiner: ...
    """

    def __init__(self, family: str, package: str):
        """`family` is what errors call a member; the modules of `package` register members when imported."""
        self.family, self._package = family, package
        self._entries: dict[str, Entry[Member]] = {}
        self._loaded = False

    def register(
        self, name: str, options: type[Any] = NoOptions, help: str = "", priority: int = 0
    ) -> Callable[[Callable[..., Member]], Callable[..., Member]]:
        """Decorator of the function or class that makes the member.

        The same function may be registered again, which replaces it (a module that is reloaded, a notebook
        cell that is run twice). Raises `GSplatLocError` if another one has the name.
        """

        def add(make: Callable[..., Member]) -> Callable[..., Member]:
            known = self._entries.get(name)
            if known is not None and _origin(known.make) != _origin(make):
                raise GSplatLocError(
                    f"expected one {self.family} called {name!r}, found two, {_origin(known.make)} and"
                    f" {_origin(make)}: rename one"
                )
            self._entries[name] = Entry(name, help, options, make, priority)
            return make

        return add

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def __getitem__(self, name: str) -> Entry[Member]:
        """The member called `name`; raises `GSplatLocError` with the known names if there is none."""
        self._load()
        if name not in self._entries:
            raise GSplatLocError(
                f"expected a {self.family} out of {', '.join(self.names())}, found {name!r}: choose one"
            )
        return self._entries[name]

    def entries(self) -> list[Entry[Member]]:
        """All members, from the highest priority to the lowest, then by name."""
        return sorted((self[name] for name in self.names()), key=lambda entry: -entry.priority)

    def options_of(self, name: str, settings: Iterable[Any]) -> Any:
        """The options object of member `name` among those in `settings`, or its default options."""
        options = self[name].options
        return next((item for item in settings if type(item) is options), None) or options()

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # before the imports, which may ask for members themselves
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            load_plugins()
        except BaseException:
            self._loaded = False  # the next call reports the same failure instead of a part of the members
            raise


@cache
def load_plugins() -> None:
    """Import the modules of other people: entry points, and the files and modules of GSPLATLOC_PLUGINS."""
    for point in metadata.entry_points(group=PLUGIN_GROUP):
        point.load()
    for text in filter(None, map(str.strip, os.environ.get(PLUGIN_VARIABLE, "").split(","))):
        import_plugin(text)


def import_plugin(text: str) -> None:
    """Import a module by its name or a .py file by its path; raises `GSplatLocError` if there is none."""
    if text.endswith(".py"):
        _import_file(Path(text).expanduser().resolve())
        return
    try:
        importlib.import_module(text)
    except ModuleNotFoundError as error:
        raise GSplatLocError(
            f"expected a module or a .py file for the plugin {text!r}, found none ({error}): correct"
            f" {PLUGIN_VARIABLE} or install it"
        ) from None


def _import_file(path: Path) -> None:
    name = f"gsplatloc_plugin_{path.stem}_{zlib.crc32(str(path).encode()):08x}"  # one module per file
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise GSplatLocError(f"expected a plugin at {path}, found no such file: correct {PLUGIN_VARIABLE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the plugin look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _origin(make: Callable[..., Any]) -> str:
    return f"{make.__module__}.{make.__qualname__}"
