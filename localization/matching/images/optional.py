"""Packages that a user may have: imported when they are asked for, missed in one line."""

import importlib
from types import ModuleType

from gsplatloc.utils.errors import GSplatLocError


def optional_module(name: str, matcher: str, install: str) -> ModuleType:
    """The module `name`; raises `GSplatLocError` that says how to `install` it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise GSplatLocError(
            f"expected the package of --matcher {matcher}, found {error}: {install}, or use --matcher mutual"
        ) from None
