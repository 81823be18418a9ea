"""Paths of a command line, checked before anything is loaded or computed for them."""

import os
from collections.abc import Sequence
from pathlib import Path

from gsplatloc.utils.errors import GSplatLocError


def require_path(path: Path | None, expected: str, flag: str) -> None:
    """Raise `GSplatLocError` if nothing is at `path`; None is right. `expected` names what should be."""
    if path is not None and not os.path.exists(os.path.expanduser(path)):
        raise GSplatLocError(f"expected {expected} at {path}, found none: check {flag}")


def require_output_folder(
    path: Path | None, flag: str, inputs: Sequence[Path | None] = (), images: Path | None = None
) -> None:
    """Raise `GSplatLocError` if no folder `path` can be made or written; None is right.

    Nor may it be one of the folders `inputs` or the folder of a file of them, with whose files it would mix,
    nor be in the folder `images`, which would hold its pictures the next time.
    """
    if path is None:
        return
    folder = _resolved(path)
    taken = [each for each in inputs if each is not None and folder in _places(each)]
    taken += [] if images is None or not folder.is_relative_to(_resolved(images)) else [images]
    if taken:
        found = f"{path}, which holds" if _resolved(taken[0]).is_file() else f"{path} in"
        raise GSplatLocError(
            f"expected a folder of its own for the results, found {found} {taken[0]}: pass another {flag}"
        )
    above = Path(os.path.abspath(os.path.expanduser(path)))
    while not os.path.lexists(above):
        above = above.parent
    if not os.path.isdir(above):
        found = f"the file {above}"
    elif not os.access(above, os.W_OK | os.X_OK):
        found = f"that {above} cannot be written"
    else:
        return
    raise GSplatLocError(
        f"expected a folder {path} that can be written, found {found}: choose another {flag}"
    )


def require_output_file(path: Path | None, flag: str) -> None:
    """Raise `GSplatLocError` if no file `path` can be written; None is right."""
    if path is None:
        return
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        raise GSplatLocError(f"expected a file {path} to write, found a folder: choose another {flag}")
    require_output_folder(path.absolute().parent, flag)


def _places(path: Path) -> list[Path]:
    """A path and, of a file, its folder."""
    resolved = _resolved(path)
    return [resolved, resolved.parent] if resolved.is_file() else [resolved]


def _resolved(path: Path) -> Path:
    return path.expanduser().resolve()
