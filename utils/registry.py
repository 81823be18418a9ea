"""Families of interchangeable methods (refiners, initial poses, extractors, matchers, readers), by name.

A member of a family is one file that calls `Registry.register`. The modules of the family's package are
imported when a member is first asked for. Where the package has a module `members`, only that one is: it
declares the names, options and help of the members (`Registry.declare`), and the file of a member is imported
when the member is made. So a command line is parsed, and its help printed, before torch and the like are
loaded. A third person's file is imported at the same time, if it is an entry point (group
`gsplatloc.plugins`) of an installed distribution, or if the environment variable GSPLATLOC_PLUGINS lists it:
names of modules or paths of .py files, separated by commas.
"""

import importlib
import importlib.util
import os
import pkgutil
import sys
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from keyword import iskeyword
from pathlib import Path
from typing import Any, Generic, TypeVar

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import expanded

Member = TypeVar("Member")
PLUGIN_GROUP = "gsplatloc.plugins"  # entry points: modules that register members when they are imported
PLUGIN_VARIABLE = "GSPLATLOC_PLUGINS"
_MEMBERS = "members"  # module of a package that declares the members of its family
_LOCK = threading.RLock()  # held while modules are imported; a module may ask for members meanwhile
_OWNERS: dict[type[Any], tuple[str, str]] = {}  # options: (family, name) of the member that has them


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


class _Deferred:
    """A function or class of a module that is imported when it is called."""

    def __init__(self, module: str, name: str):
        self.__module__, self.__qualname__ = module, name

    def __call__(self, *arguments: Any) -> Any:
        return getattr(importlib.import_module(self.__module__), self.__qualname__)(*arguments)


class Registry(Generic[Member]):
    """The members of one family.

    >>> REFINERS = Registry[Refiner]("refinement", "gsplatloc.localization.refine")
    >>> @REFINERS.register("lm", LmOptions, "direct alignment, Levenberg-Marquardt")
    ... def make(options: LmOptions, context: StageContext) -> Refiner: ...
    """

    def __init__(self, family: str, package: str, has_options: bool = True, reserved: Collection[str] = ()):
        """`family` is what errors call a member; the modules of `package` register members when imported.

        With `has_options=False` members have no options: nothing sets them. `reserved` names are refused.
        """
        self.family, self._package = family, package
        self._has_options, self._reserved = has_options, reserved
        self._entries: dict[str, Entry[Member]] = {}
        self._loading = self._loaded = False

    def register(
        self, name: str, options: type[Any] = NoOptions, help: str = "", priority: int = 0
    ) -> Callable[[Callable[..., Member]], Callable[..., Member]]:
        """Decorator of the function or class that makes the member.

        The same function may be registered again, which replaces it (a module that is reloaded, a notebook
        cell that is run twice). Raises `GSplatLocError` if another one has the name or the options, for a
        reserved name, and for a name that is no identifier: flags and versions contain it.
        """

        def add(make: Callable[..., Member]) -> Callable[..., Member]:
            self._check(name, options, make)
            if options is not NoOptions:
                _OWNERS[options] = (self.family, name)
            self._entries[name] = Entry(name, help, options, make, priority)
            return make

        return add

    def declare(
        self, name: str, path: str, options: type[Any] = NoOptions, help: str = "", priority: int = 0
    ) -> None:
        """Register the member that `path` makes, `MODULE.FUNCTION` within the family's package.

        The module is imported when the member is made. Raises as `register` does.
        """
        module, _, function = path.rpartition(".")
        self.register(name, options, help, priority)(_Deferred(f"{self._package}.{module}", function))

    def _check(self, name: str, options: type[Any], make: Callable[..., Member]) -> None:
        if not name.isidentifier() or iskeyword(name) or name in self._reserved:
            other = f" other than {', '.join(self._reserved)}" if self._reserved else ""
            raise GSplatLocError(
                f"expected an identifier{other} as the name of a {self.family}, found {name!r} of"
                f" {_origin(make)}: rename it"
            )
        known = self._entries.get(name)
        if known is not None and _origin(known.make) != _origin(make):
            raise GSplatLocError(
                f"expected one {self.family} called {name!r}, found two, {_origin(known.make)} and"
                f" {_origin(make)}: rename one"
            )
        if not self._has_options and options is not NoOptions:
            raise GSplatLocError(
                f"expected the {self.family} {name!r} without options, which nothing could set, found"
                f" {options.__name__}: make constants of them"
            )
        owner = _OWNERS.get(options, (self.family, name))
        if owner != (self.family, name):
            raise GSplatLocError(
                f"expected options of its own for the {self.family} {name!r}, found {options.__name__} of the"
                f" {' '.join(owner)}: derive a dataclass from it"
            )

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def __getitem__(self, name: str) -> Entry[Member]:
        """The member called `name`; raises `GSplatLocError` with the known names if there is none."""
        self._load()
        if name not in self._entries:
            raise GSplatLocError(
                f"expected a {self.family} out of {', '.join(self.names())}, found {name!r}: choose one,"
                f" or name the file of another in {PLUGIN_VARIABLE}"
            )
        return self._entries[name]

    def entries(self) -> list[Entry[Member]]:
        """All members, from the highest priority to the lowest, then by name."""
        return sorted((self[name] for name in self.names()), key=lambda entry: -entry.priority)

    def options_of(self, name: str, settings: Iterable[Any]) -> Any:
        """The options object of member `name` among those in `settings`, or its default options."""
        options = self[name].options
        return next((item for item in settings if type(item) is options), None) or options()

    def make(self, name: str, settings: Iterable[Any], *arguments: Any) -> Member:
        """Member `name` with its options in `settings`, or its default ones; the family fixes `arguments`.

        Raises `GSplatLocError` if the member's attribute `name` differs: results are kept by that name.
        """
        member = self[name].make(self.options_of(name, settings), *arguments)
        found = getattr(member, "name", None)
        if found != name:
            raise GSplatLocError(
                f"expected the attribute name={name!r} of the {self.family} that is registered as {name!r},"
                f" found {found!r}: correct {_origin(self[name].make)}"
            )
        return member

    def _load(self) -> None:
        """Import all members once. Other threads wait; the imported modules see what is there so far."""
        if self._loaded:
            return
        with _LOCK:
            if self._loading or self._loaded:
                return
            self._loading = True
            try:
                package = importlib.import_module(self._package)
                names = {module.name for module in pkgutil.iter_modules(package.__path__)}
                for name in [_MEMBERS] if _MEMBERS in names else sorted(names):
                    importlib.import_module(f"{self._package}.{name}")
                _load_plugins()
                self._loaded = True  # not after a failure, which the next call reports again
            finally:
                self._loading = False


def check_settings(settings: Iterable[Any], *families: Registry[Any]) -> None:
    """Raise `GSplatLocError` for an object in `settings` that is not the options of a member."""
    known = {entry.options for family in families for entry in family.entries()} - {NoOptions}
    for item in settings:
        if type(item) not in known:
            names = ", ".join(sorted(options.__name__ for options in known))
            raise GSplatLocError(
                f"expected settings out of {names}, found {item!r:.80}: remove it, or register its method"
            )


@cache
def _load_plugins() -> None:
    """Import the modules of other people: entry points, and the files and modules of GSPLATLOC_PLUGINS."""
    for point in metadata.entry_points(group=PLUGIN_GROUP):
        distribution = point.dist.name if point.dist else "a distribution"
        with _import_of(f"{point.value} of {distribution}", "repair or uninstall it"):
            point.load()
    for text in filter(None, map(str.strip, os.environ.get(PLUGIN_VARIABLE, "").split(","))):
        import_plugin(text)


def import_plugin(text: str) -> None:
    """Import a module by its name or a .py file by its path.

    Raises `GSplatLocError` if there is none, and if it imports something that there is not.
    """
    with _import_of(text, f"install what it needs, or remove it from {PLUGIN_VARIABLE}"):
        if text.endswith(".py"):
            _import_file(expanded(text).resolve())
            return
        try:
            importlib.import_module(text)
        except ModuleNotFoundError as error:
            if not f"{text}.".startswith(f"{error.name}."):
                raise  # a module that the plugin imports
            raise GSplatLocError(
                f"expected a module or a .py file for the plugin {text!r}, found none ({error}): correct"
                f" {PLUGIN_VARIABLE} or install it"
            ) from None


@contextmanager
def _import_of(plugin: str, remedy: str) -> Iterator[None]:
    """Turn an ImportError into a user's error that names the plugin: it is met by every command."""
    try:
        yield
    except ImportError as error:
        raise GSplatLocError(f"expected to import the plugin {plugin}, found {error}: {remedy}") from error


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
