"""Write a map's Gaussians for other programs, or a small map: `gsplatloc export -m OUT --format spz`."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gsplatloc.arguments.export import ExportArguments
from gsplatloc.localization.alignment.exposure import FILE_NAME as EXPOSURE_NAME
from gsplatloc.localization.initial.view_index import FILE_NAME as INDEX_NAME
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS_NAME
from gsplatloc.localization.landmarks.file import load_landmarks
from gsplatloc.localization.landmarks.rivals import FILE_NAME as ALIKE_NAME
from gsplatloc.localization.tiles.place_index import FILE_NAME as PLACES_NAME
from gsplatloc.mapping.clamped_colours import with_clamped_colours
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import find_ply, save_small, saved_iterations
from gsplatloc.scene.formats import SPLAT_FORMATS, read_splat, write_splat
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import (
    CAMERAS_NAME,
    config_path,
    frame_of_splat,
    read_cameras,
    read_config,
)
from gsplatloc.scene.tiled_map import TILES_NAME, is_tiled, read_tiles
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path
from gsplatloc.utils.locks import output_folder

_CLAMPED = "splat"  # the format whose colours are within [0, 1] and the same from everywhere


def main(arguments: ExportArguments) -> None:
    """Run the command."""
    if is_tiled(arguments.model_path):
        size = _write_small_tiles(arguments)
        log(f"{arguments.map}: {size / 1e6:.1f} MB")
        return
    source = find_ply(arguments.model_path, arguments.iteration)
    frame = frame_of_splat(source.resolve())
    gaussians = read_splat(source)
    kept = arguments.filter.apply(gaussians)
    if arguments.map is None:
        name, path = arguments.format_name(), arguments.path()
        views = _mapping_views(arguments.model_path)
        write_splat(path, kept, name, views)
        if name == _CLAMPED and views:
            write_splat(path, with_clamped_colours(kept, read_splat(path), views), name)
        size = path.stat().st_size
    else:
        name, path = "small", arguments.map
        size = _write_small_map(arguments, path, kept)
    log(f"{path}: {len(kept)} of {len(gaussians)} Gaussians, {size / 1e6:.1f} MB")
    changes = SPLAT_FORMATS[name].make().changes
    log(f"{name}: {changes}" if changes else "")
    if arguments.map is None and frame is not None and not frame.is_world:
        log(f"coordinates: those of the map, with its {frame}: x_scene = origin + unit * x")


def _mapping_views(source: Path) -> list[PosedCamera]:
    """The cameras of a map's folder; none of a splat file."""
    return read_cameras(source) if (source / CAMERAS_NAME).is_file() else []


def _write_small_tiles(arguments: ExportArguments) -> int:
    """Write a map in tiles as one of small maps; returns the bytes."""
    source, target = arguments.model_path, arguments.map
    if target is None:
        raise GSplatLocError(
            f"expected --map FOLDER for the map in tiles {source}, found none: a splat is one of its tiles'"
        )
    _require_no_map(target)
    size = 0
    for tile in read_tiles(source):
        part = replace(arguments, model_path=source / tile.folder, map=target / tile.folder)
        gaussians = read_splat(find_ply(part.model_path, part.iteration))
        size += _write_small_map(part, target / tile.folder, part.filter.apply(gaussians))
    with output_folder(target) as output:
        # The list of tiles is the last: without it there is no map.
        names = (config_path(source).name, CAMERAS_NAME, PLACES_NAME, TILES_NAME)
        copies = [_copied(source / name, output) for name in names]
    return size + _bytes(copies)


def _write_small_map(arguments: ExportArguments, folder: Path, gaussians: Gaussians) -> int:
    """Write the map's files that localization without descriptors reads; returns their bytes."""
    source = arguments.model_path
    for path in (config_path(source), source / LANDMARKS_NAME):
        if not path.is_file():
            raise GSplatLocError(
                f"expected a map's folder with {path.name}, found none in {source}: check -m"
            )
    read_config(source)  # of this version, and whole, as the landmarks are
    load_landmarks(source / LANDMARKS_NAME)
    _require_no_map(folder)
    iteration = arguments.iteration if arguments.iteration is not None else saved_iterations(source)[-1]
    with output_folder(folder) as output:
        names = (
            config_path(source).name,
            CAMERAS_NAME,
            LANDMARKS_NAME,
            ALIKE_NAME,
            INDEX_NAME,
            EXPOSURE_NAME,
        )
        found = [name for name in names if (source / name).is_file()]
        copies = [_copied(source / name, output) for name in found]
        for name in set(names) - set(found):  # of an earlier map without Gaussians
            (output / name).unlink(missing_ok=True)
        return _bytes([save_small(output, iteration, gaussians), *copies])


def _require_no_map(folder: Path) -> None:
    if is_tiled(folder) or saved_iterations(folder):
        raise GSplatLocError(
            f"expected a folder without a map, found one in {folder}: remove it, or pass another"
        )


def _copied(file: Path, folder: Path) -> Path:
    with atomic_path(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)
    return folder / file.name


def _bytes(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)
