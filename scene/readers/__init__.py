"""Readers of scenes: each turns a folder of one layout into posed views.

A reader is one file of this folder (or a plugin) whose class registers itself in `READERS`. The other modules
of this folder are what readers share: options.py, poses.py, views.py, point_cloud.py, phones.py and others.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gsplatloc.scene.image_files import image_files
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.other_layouts import other_layout
from gsplatloc.scene.unpacking import is_archive, unpacked
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import expanded
from gsplatloc.utils.registry import Entry, Registry

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from gsplatloc.scene.cameras import Scene


class Reader(Protocol):
    """Reads one layout. Reading parses poses and image headers only; pixels stay on disk."""

    def matches(self, path: Path) -> bool:
        """Whether the folder has this layout, judged by the names of the files in it."""
        ...

    def read(self, path: Path, options: SceneOptions) -> Scene:
        """Read the scene; raises `GSplatLocError` if the folder matches but its content is wrong."""
        ...


@runtime_checkable
class RecordingReader(Reader, Protocol):
    """A reader of recordings: --queries localizes their images, with the intrinsics that they state."""

    def is_recording(self, path: Path) -> bool:
        """Whether the folder, which has this layout, is a phone's recording."""
        ...


# Factories (the readers' classes) take no argument; the help line says what a folder of the layout holds.
# If several readers match a folder, the one with the highest priority reads it. The built-in readers have
# priorities 10 to 50, so that a plugin (0 by default) reads only what they do not match, unless it sets more.
READERS = Registry[Reader]("scene reader", __name__, has_options=False)
_POSED_FOLDERS = "posed_folders"  # name of the reader of scenes that set-up commands write
_MOST_NEAR = 100  # folders in which a scene is looked for where there is none in the one that was named


def read_scene(path: Path | str, options: SceneOptions | None = None) -> Scene:
    """Read the scene in the folder `path` with the first of `READERS` that matches it.

    `path` may also be a zip archive of such a folder, as phones write them (.r3d, .zip): it is unpacked
    beside itself first.
    """
    path = expanded(path)
    require_scene(path)
    folder = unpacked_scene(path)
    reader = _reader_of(folder)
    if reader is not None:
        scene = reader.read(folder, options or SceneOptions())
        if not scene.report:  # of a plugin
            used = f"{len(scene.train)} training and {len(scene.test)} test images"
            scene = replace(scene, report=f"{quoted(path)}: used {used}")
        if unread := _also_there(folder):
            scene = replace(scene, report=f"{scene.report}; there is also {unread}, which is not read")
        return scene if folder is path else replace(scene, name=path.stem)
    if (near := _scene_near(folder)) is not None:
        raise GSplatLocError(
            f"expected a scene in {quoted(path)}, found one in {quoted(near)}: pass {shlex.quote(str(near))}"
        )
    if (other := other_layout(folder)) is not None:
        without = (
            f", or gsplatloc map {shlex.quote(str(path))} -m OUT finds poses" if image_files(folder) else ""
        )
        raise GSplatLocError(
            f"expected a scene in {quoted(path)}, found {other[0]}, which is not read: {other[1]}{without}"
        )
    known = "; ".join(entry.help for entry in READERS.entries())
    raise GSplatLocError(
        f"expected a scene in {path}, found no known layout: make it one of: {known};"
        f" photos without poses and videos: gsplatloc map {shlex.quote(str(path))} -m OUT"
    )


def require_scene(path: Path | str) -> None:
    """Raise `GSplatLocError` if there is neither a folder nor an archive at `path`."""
    path = expanded(path)
    if not os.path.isdir(path) and not is_archive(path):
        if os.path.isfile(path):
            raise GSplatLocError(
                f"expected a scene folder at {quoted(path)}, found a file: pass the folder that it is in"
            )
        raise GSplatLocError(f"expected a scene folder at {quoted(path)}, found none: check --source_path")


def has_known_layout(path: Path) -> bool:
    """Whether `path` is a folder with poses that one of `READERS` reads."""
    return os.path.isdir(path) and _reader_of(path) is not None


def is_recording(path: Path) -> bool:
    """Whether `path` is the folder of a phone's recording."""
    reader = _reader_of(path) if os.path.isdir(path) else None
    return isinstance(reader, RecordingReader) and reader.is_recording(path)


def unpacked_scene(path: Path) -> Path:
    """The folder that an archive holds, or `path` itself if it is none."""
    if not is_archive(path):
        return path
    folder = unpacked(path)
    inner = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] not in "._"]
    return inner[0] if len(inner) == 1 and _reader_of(folder) is None else folder


def _scene_near(path: Path) -> Path | None:
    """A scene that `path` is a part of, or that is directly in it."""
    path = path.absolute()
    inside = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return next((folder for folder in (*path.parents[:2], *inside[:_MOST_NEAR]) if _reader_of(folder)), None)


def _also_there(path: Path) -> str:
    """The other layouts that a folder has. Scenes in posed folders may hold the model they were made from."""
    first, *others = [entry for entry, _ in _matching(path)]
    return "" if first.name == _POSED_FOLDERS else ", ".join(entry.help for entry in others)


def _reader_of(path: Path) -> Reader | None:
    """The first reader that matches the folder."""
    return next((reader for _, reader in _matching(path)), None)


def _matching(path: Path) -> Iterator[tuple[Entry[Reader], Reader]]:
    """The readers that match the folder, that of the highest priority first."""
    for entry in READERS.entries():
        reader = entry.make()
        if reader.matches(path):
            yield entry, reader
