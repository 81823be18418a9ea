"""The number of the interface between the native modules, this package and the library that calls it.

`pip install` builds the native modules and copies this package beside them. After an update of one of them
alone they no longer fit each other, and calls would fail with errors that do not say why.
"""

from types import ModuleType

# To be raised, here, in src/interface.h and in the library (gaussian_renderer/native.py), with every change
# of a function that one of them calls in another, of its arguments or its results.
INTERFACE = 1
BUILD = "pip install --force-reinstall --no-deps ./submodules/diff-gaussian-rasterization"


class InterfaceError(ImportError):
    """A native module is there, of another interface than this package's."""


def check_interface(module: ModuleType, build: str = BUILD) -> None:
    """Raise InterfaceError, with the command that builds it, for a native module of another interface."""
    found = getattr(module, "INTERFACE", None)
    if found != INTERFACE:
        raise InterfaceError(
            f"expected a native module with interface {INTERFACE}, found {found or 'one without a number'} in"
            f" {module.__file__}: it was built from other sources, build it again with `{build}`"
        )
