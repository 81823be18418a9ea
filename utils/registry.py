"""Families of interchangeable methods (refiners, initial poses, extractors, matchers, readers), by name.

A member of a family is one file that calls `Registry.register`. The modules of the family's own package are
imported when the family is first asked for a member; files of other people join by an entry point of their
distribution, or by the environment variable GSPLATLOC_PLUGINS: modules or paths of .py files, separated by
commas. Command-line flags and stages follow from what is registered.
"""

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from gsplatloc.utils.errors import GSplatLocError

Member = TypeVar("Member")
PLUGIN_GROUP = "gsplatloc.plugins"  # entry points: modules that register members when imported
PLUGIN_VARIABLE = "GSPLATLOC_PLUGINS"


@dataclass(frozen=True)
class NoOptions:
    """Of a method that nothing can be said to."""


@dataclass(frozen=True)
class Entry(Generic[Member]):
    """One member of a family."""

    name: str
    help: str  # one line
    options: type[Any]  # frozen dataclass; its defaults are the method's
    make: Callable[..., Member]  # (options, *what the family's protocol says)


class Registry(Generic[Member]):
    """The members of one family.

    >>> REFINERS = Registry[Refiner]("refiner", "gsplatloc.localization.refine")
    >>> @REFINERS.register("lm", LmOptions, "direct alignment, Levenberg-Marquardt")
    ... def make(options: LmOptions, context: StageContext) -> Refiner: ...
    """

    def __init__(self, family: str, package: str):
        """`family` names a member in errors; the modules of `package` register themselves when imported."""
        self.family, self._package = family, package
        self._entries: dict[str, Entry[Member]] = {}
        self._loaded = False

    def register(
        self, name: str, options: type[Any] = NoOptions, help: str = ""
    ) -> Callable[[Callable[..., Member]], Callable[..., Member]]:
        """Decorator of a factory `make(options, ...)`. A name that is taken by other code is an error."""

        def add(make: Callable[..., Member]) -> Callable[..., Member]:
            known = self._entries.get(name)
            if known is not None and known.make.__qualname__ + known.make.__module__ != (
                make.__qualname__ + make.__module__
            ):
                raise GSplatLocError(f"expected one {self.family} called {name!r}, found two: rename one")
            self._entries[name] = Entry(name, help, options, make)
            return make

        return add

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def __getitem__(self, name: str) -> Entry[Member]:
        """The member called `name`; raises `GSplatLocError` that lists the names there are."""
        self._load()
        if name not in self._entries:
            raise GSplatLocError(
                f"expected a {self.family} out of {', '.join(self.names())}, found {name!r}: choose one"
            )
        return self._entries[name]

    def entries(self) -> list[Entry[Member]]:
        """All members, by name."""
        return [self[name] for name in self.names()]

    def options_of(self, name: str, settings: Iterable[Any]) -> Any:
        """The options of `name` among `settings` (options objects of any members), or their defaults."""
        entry = self[name]
        return next((item for item in settings if type(item) is entry.options), None) or entry.options()

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            load_plugins()


@cache
def load_plugins() -> None:
    """Import what other people registered: entry points, and the files or modules of GSPLATLOC_PLUGINS."""
    for point in metadata.entry_points(group=PLUGIN_GROUP):
        point.load()
    for text in filter(None, os.environ.get(PLUGIN_VARIABLE, "").split(",")):
        import_plugin(text.strip())


def import_plugin(text: str) -> None:
    """Import a module by name, or a .py file by path; raises `GSplatLocError` where there is none."""
    path = Path(text).expanduser()
    if path.suffix != ".py":
        try:
            importlib.import_module(text)
        except ModuleNotFoundError as error:
            raise GSplatLocError(
                f"expected a module or a .py file in {PLUGIN_VARIABLE}, found {text!r}: {error}"
            ) from None
        return
    if not path.is_file():
        raise GSplatLocError(f"expected a plugin at {path}, found none: correct {PLUGIN_VARIABLE}")
    name = f"gsplatloc_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GSplatLocError(f"expected Python code in {path}, found something else")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
