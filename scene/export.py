"""Maps on disk: a standard .ply of 3D Gaussians, which splat viewers open, and descriptors beside it."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import torch

from gsplatloc.scene.feature_file import FEATURES_NAME, check_decoder, read_features, write_features
from gsplatloc.scene.formats import is_splat_file, read_splat, write_splat
from gsplatloc.scene.formats.ply import OLD_FEATURE_PREFIX, columns
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import map_antialiased
from gsplatloc.scene.ply import read_vertices
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.tensors import stored_tensors

_PLY_NAME = "point_cloud.ply"
_SMALL_NAME = "point_cloud.small"  # of a map that `save_small` wrote
# Maps of versions up to 0.1 hold the decoder of --speedup in a file beside the .ply, and descriptors in it.
_OLD_DECODER_NAME = "feature_decoder.safetensors"


def ply_path(map_dir: Path | str, iteration: int) -> Path:
    """The path of the Gaussians of an iteration in a map."""
    return Path(map_dir) / "point_cloud" / f"iteration_{iteration}" / _PLY_NAME


def saved_iterations(map_dir: Path | str) -> list[int]:
    """The iterations at which a map was saved, ascending."""
    files = [*Path(map_dir).glob(f"point_cloud/iteration_*/{_PLY_NAME}")]
    files += Path(map_dir).glob(f"point_cloud/iteration_*/{_SMALL_NAME}")
    found = (re.fullmatch(r"iteration_(\d+)", path.parent.name) for path in files)
    return sorted({int(match[1]) for match in found if match})


def find_ply(map_dir: Path | str, iteration: int | None = None) -> Path:
    """The splat of a map at `iteration` (default: latest); the path of a splat file is returned as it is.

    Raises GSplatLocError if there is none.
    """
    map_dir = Path(map_dir)
    if map_dir.is_file() or (is_splat_file(map_dir) and not map_dir.is_dir()):
        return map_dir  # whatever its name: its content decides
    iterations = saved_iterations(map_dir)
    if not iterations:
        raise GSplatLocError(
            f"expected a map in {map_dir}, found no point_cloud/iteration_*/{_PLY_NAME}: run gsplatloc train"
        )
    if iteration is not None and iteration not in iterations:
        raise GSplatLocError(f"expected iteration {iteration} in {map_dir}, found only {iterations}")
    ply = ply_path(map_dir, iterations[-1] if iteration is None else iteration)
    return ply if ply.is_file() else ply.with_name(_SMALL_NAME)


def map_files(ply: Path, descriptors: bool) -> list[Path]:
    """The files from which the Gaussians of a map are read, with or without their descriptors."""
    features = ply.with_name(FEATURES_NAME)
    beside = features if features.is_file() else ply.with_name(_OLD_DECODER_NAME)
    return [ply, beside] if descriptors and ply.name == _PLY_NAME and beside.is_file() else [ply]


def save_gaussians(map_dir: Path | str, iteration: int, gaussians: Gaussians) -> Path:
    """Write the Gaussians of an iteration, and their descriptors beside them; returns the .ply."""
    path = ply_path(map_dir, iteration)
    features = path.with_name(FEATURES_NAME)
    if gaussians.features.shape[1]:
        write_features(features, gaussians)
    else:
        features.unlink(missing_ok=True)  # of an earlier run
    path.with_name(_OLD_DECODER_NAME).unlink(missing_ok=True)
    write_splat(path, gaussians)
    return path


def save_small(map_dir: Path | str, iteration: int, gaussians: Gaussians) -> Path:
    """Write the Gaussians of an iteration quantised and without descriptors; returns the file."""
    path = ply_path(map_dir, iteration).with_name(_SMALL_NAME)
    write_splat(path, gaussians)
    return path


def report_later_iterations(map_dir: Path | str, iteration: int) -> None:
    """Warn on stderr if an earlier run left a later iteration in the map than `iteration`."""
    later = [number for number in saved_iterations(map_dir) if number > iteration]
    if later:
        log(
            f"{map_dir}: iteration {later[-1]} of an earlier run is still there and taken for the latest:"
            f" remove it, or pass --iteration {iteration}",
            stream=sys.stderr,
        )


def load_gaussians(map_dir: Path | str, iteration: int | None = None) -> Gaussians:
    """The Gaussians of a map (its latest iteration by default) with descriptors, or those of any splat file.

    Raises GSplatLocError if there are none.
    """
    path = find_ply(map_dir, iteration)
    return replace(with_descriptors(read_splat(path), path), antialiased=map_antialiased(map_dir))


def with_descriptors(gaussians: Gaussians, ply: Path) -> Gaussians:
    """`gaussians`, which were read from `ply`, with their descriptors; zero channels if the map has none."""
    beside = map_files(ply, descriptors=True)[1:]
    if beside and beside[0].name == FEATURES_NAME:
        return read_features(beside[0], gaussians)
    if ply.name != _PLY_NAME:  # a splat of another tool
        return gaussians
    vertices = read_vertices(ply, lambda name: name.startswith(OLD_FEATURE_PREFIX))
    features = torch.from_numpy(columns(vertices, OLD_FEATURE_PREFIX))
    if len(features) != len(gaussians) or not bool(features.isfinite().all()):
        raise GSplatLocError(f"expected finite Gaussians in {ply}, found NaN or infinity: train anew")
    decoder = _read_old_decoder(beside[0], features.shape[1]).to(gaussians.device) if beside else None
    return replace(gaussians, features=features.to(gaussians.device), feature_decoder=decoder)


def _read_old_decoder(path: Path, channels: int) -> torch.Tensor:
    with stored_tensors(path, "a feature decoder", "train anew") as (tensors, _):
        return check_decoder(tensors["feature_decoder"], channels, path)
