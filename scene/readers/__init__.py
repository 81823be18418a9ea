"""Readers of scenes: each turns a folder of one layout into posed views.

A reader is one file of this folder (or a plugin) whose class registers itself in `READERS`. The other modules
of this folder are what readers share: options.py, poses.py, views.py and point_cloud.py.
"""

import os
import shlex
from pathlib import Path
from typing import Protocol

from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import expanded
from gsplatloc.utils.registry import Registry


class Reader(Protocol):
    """Reads one layout. Reading parses poses and image headers only; pixels stay on disk."""

    def matches(self, path: Path) -> bool:
        """Whether the folder has this layout, judged by the names of the files in it."""
        ...

    def read(self, path: Path, options: SceneOptions) -> Scene:
        """Read the scene; raises `GSplatLocError` if the folder matches but its content is wrong."""
        ...


# Factories (the readers' classes) take no argument; the help line says what a folder of the layout holds.
# If several readers match a folder, the one with the highest priority reads it. The built-in readers have
# priorities 10 to 50, so that a plugin (0 by default) reads only what they do not match, unless it sets more.
READERS = Registry[Reader]("scene reader", __name__, has_options=False)


def read_scene(path: Path | str, options: SceneOptions | None = None) -> Scene:
    """Read the scene in the folder `path` with the first of `READERS` that matches it."""
    path = expanded(path)
    if not os.path.isdir(path):
        raise GSplatLocError(f"expected a scene folder at {quoted(path)}, found none: check --source_path")
    reader = _reader_of(path)
    if reader is not None:
        return reader.read(path, options or SceneOptions())
    known = "; ".join(entry.help for entry in READERS.entries())
    raise GSplatLocError(
        f"expected a scene in {path}, found no known layout: make it one of: {known};"
        f" photos without poses and videos: gsplatloc map {shlex.quote(str(path))} -m OUT"
    )


def has_known_layout(path: Path) -> bool:
    """Whether `path` is a folder with poses that one of `READERS` reads."""
    return os.path.isdir(path) and _reader_of(path) is not None


def _reader_of(path: Path) -> Reader | None:
    """The first reader that matches the folder."""
    return next((reader for entry in READERS.entries() if (reader := entry.make()).matches(path)), None)
