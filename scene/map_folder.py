"""Checks that a folder is a map, before the modules that read maps are loaded."""

import os
from pathlib import Path

from gsplatloc.utils.errors import GSplatLocError

CAMERAS_NAME = "cameras.json"
TILES_NAME = "tiles.json"  # of a map in tiles


def config_path(map_dir: Path | str) -> Path:
    """The file in a map's folder with the record of how it was made."""
    return Path(map_dir) / "config.json"


def require_map(map_dir: Path | str) -> None:
    """Raise `GSplatLocError` if the folder holds no map."""
    if config_path(map_dir).is_file():
        return
    if not os.path.exists(map_dir):
        raise GSplatLocError(f"expected the folder of a map at {map_dir}, found none: check the path")
    above = (folder for folder in Path(map_dir).absolute().parents if config_path(folder).is_file())
    folder = next(above, None)
    action = "run gsplatloc map or train" if folder is None else f"pass the folder of the map, {folder}"
    raise GSplatLocError(f"expected a map in {map_dir}, found no config.json: {action}")


def require_splat(path: Path) -> None:
    """Raise `GSplatLocError` if there is neither a folder that can be a map nor a file at `path`."""
    if not path.is_file() and not (path / "point_cloud").is_dir() and not (path / TILES_NAME).is_file():
        raise GSplatLocError(
            f"expected a map or a splat in {path}, found neither: check the path, or run gsplatloc train"
        )
