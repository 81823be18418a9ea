"""Maps on disk: a standard .ply of 3D Gaussians, which splat viewers open, and descriptors beside it."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from gsplatloc.scene.feature_file import FEATURES_NAME, check_decoder, read_features, write_features
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.ply import read_vertices, write_vertices
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, decoding

_PLY_NAME = "point_cloud.ply"
_REQUIRED = ("x", "y", "z", *(f"f_dc_{i}" for i in range(3)), "opacity")
_REQUIRED += (*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)))
_OPAQUE = 30.0  # logit: the opacity is 1 in single precision
_SH_REST_COUNTS = (0, 9, 24, 45, 72)  # of f_rest_* properties, degree 0 to 4
# Maps of versions up to 0.1 hold descriptors in the .ply, and the decoder of --speedup in a file beside it.
_OLD_FEATURE_PREFIX = "semantic_"
_OLD_DECODER_NAME = "feature_decoder.safetensors"


def ply_path(map_dir: Path | str, iteration: int) -> Path:
    """Where a map keeps the Gaussians of an iteration."""
    return Path(map_dir) / "point_cloud" / f"iteration_{iteration}" / _PLY_NAME


def saved_iterations(map_dir: Path | str) -> list[int]:
    """The iterations at which a map was saved, ascending."""
    folders = Path(map_dir).glob(f"point_cloud/iteration_*/{_PLY_NAME}")
    found = (re.fullmatch(r"iteration_(\d+)", path.parent.name) for path in folders)
    return sorted(int(match[1]) for match in found if match)


def find_ply(map_dir: Path | str, iteration: int | None = None) -> Path:
    """The .ply of a map at `iteration`, by default the latest; a path of a .ply file is returned as it is.

    Raises GSplatLocError if there is none.
    """
    map_dir = Path(map_dir)
    if map_dir.suffix == ".ply":
        return map_dir
    iterations = saved_iterations(map_dir)
    if not iterations:
        raise GSplatLocError(
            f"expected a map in {map_dir}, found no point_cloud/iteration_*/{_PLY_NAME}: run gsplatloc train"
        )
    if iteration is not None and iteration not in iterations:
        raise GSplatLocError(f"expected iteration {iteration} in {map_dir}, found only {iterations}")
    return ply_path(map_dir, iterations[-1] if iteration is None else iteration)


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
    write_ply(path, gaussians)
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
    """The Gaussians of a map (its latest iteration by default) with descriptors, or those of any splat .ply.

    Raises GSplatLocError if there are none.
    """
    path = find_ply(map_dir, iteration)
    return with_descriptors(read_ply(path), path)


def with_descriptors(gaussians: Gaussians, ply: Path) -> Gaussians:
    """`gaussians`, which were read from `ply`, with their descriptors; zero channels if the map has none."""
    beside = map_files(ply, descriptors=True)[1:]
    if beside and beside[0].name == FEATURES_NAME:
        return read_features(beside[0], gaussians)
    vertices = read_vertices(ply, lambda name: name.startswith(_OLD_FEATURE_PREFIX))
    features = _columns(vertices, _OLD_FEATURE_PREFIX)
    if len(features) != len(gaussians) or not bool(features.isfinite().all()):
        raise GSplatLocError(f"expected finite Gaussians in {ply}, found NaN or infinity: train anew")
    decoder = _read_old_decoder(beside[0], features.shape[1]).to(gaussians.device) if beside else None
    return replace(gaussians, features=features.to(gaussians.device), feature_decoder=decoder)


def _read_old_decoder(path: Path, channels: int) -> torch.Tensor:
    with decoding("a feature decoder", path, "train anew"):
        return check_decoder(load_file(path)["feature_decoder"], channels, path)


def write_ply(path: Path | str, gaussians: Gaussians) -> None:
    """Write Gaussians, without descriptors, with the properties of 3D Gaussian splatting, as float32.

    The values are the stored parameters (log scales, opacity logits). SH coefficients beyond degree 0 are
    ordered channel by channel: f_rest_0 .. f_rest_{K-2} belong to red.
    """
    columns = {name: tensor.detach().cpu().float() for name, tensor in gaussians.per_gaussian().items()}
    rest = columns["sh"][:, 1:].transpose(1, 2).flatten(1)
    groups = [
        (["x", "y", "z"], columns["means"]),
        (["nx", "ny", "nz"], torch.zeros_like(columns["means"])),
        ([f"f_dc_{i}" for i in range(3)], columns["sh"][:, 0]),
        ([f"f_rest_{i}" for i in range(rest.shape[1])], rest),
        (["opacity"], columns["opacity_logits"][:, None]),
        ([f"scale_{i}" for i in range(3)], columns["log_scales"]),
        ([f"rot_{i}" for i in range(4)], columns["quaternions"]),
    ]
    names = [name for group, _ in groups for name in group]
    table = torch.cat([values for _, values in groups], 1).numpy()
    write_vertices(path, np.ascontiguousarray(table).view(np.dtype([(name, "<f4") for name in names]))[:, 0])


def read_ply(path: Path | str) -> Gaussians:
    """Read Gaussians, without descriptors, from a .ply of any splatting tool."""
    vertices = read_vertices(path, lambda name: not name.startswith(_OLD_FEATURE_PREFIX))
    names = vertices.dtype.names or ()
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise GSplatLocError(
            f"expected 3D Gaussians in {path}, found no property '{missing[0]}': pass a splat"
        )
    count = len(vertices)
    base, rest = _columns(vertices, "f_dc_"), _columns(vertices, "f_rest_")
    if rest.shape[1] not in _SH_REST_COUNTS:
        raise GSplatLocError(f"expected 0, 9, 24, 45 or 72 f_rest_* in {path}, found {rest.shape[1]}")
    rest = rest.reshape(count, 3, rest.shape[1] // 3).transpose(1, 2)
    gaussians = Gaussians(
        means=torch.from_numpy(np.stack([vertices[axis].astype(np.float32) for axis in "xyz"], 1)),
        quaternions=_columns(vertices, "rot_"),
        log_scales=_columns(vertices, "scale_"),
        opacity_logits=torch.from_numpy(vertices["opacity"].astype(np.float32)),
        sh=torch.cat([base[:, None], rest], 1).contiguous(),
        features=torch.zeros(count, 0),
    )
    return _without_broken_rows(gaussians, Path(path))


def _without_broken_rows(gaussians: Gaussians, path: Path) -> Gaussians:
    """Leave out, with a count on stderr, Gaussians that other tools write with NaN or infinite values.

    A scale of -inf has no size, an opacity of -inf cannot be seen, one of +inf is opaque: that is kept.
    """
    logits = gaussians.opacity_logits
    gaussians = replace(gaussians, opacity_logits=torch.where(logits.isposinf(), _OPAQUE, logits))
    usable = gaussians.quaternions.norm(dim=1) > 0
    for tensor in gaussians.per_gaussian().values():
        usable &= tensor.reshape(len(tensor), tensor[:1].numel()).isfinite().all(1)
    if bool(usable.all()):
        return gaussians
    if not bool(usable.any()):
        raise GSplatLocError(f"expected finite Gaussians in {path}, found NaN or infinity in all: train anew")
    if path.name == _PLY_NAME and path.with_name(FEATURES_NAME).is_file():
        raise GSplatLocError(
            f"expected finite Gaussians in {path}, found NaN or infinity in {int((~usable).sum())}, which"
            f" {FEATURES_NAME} describes: train anew"
        )
    log(f"{path}: left out {int((~usable).sum())} of {len(usable)} Gaussians: not finite", stream=sys.stderr)
    return gaussians.select(usable)


def _columns(vertices: np.ndarray, prefix: str) -> torch.Tensor:
    """The properties prefix0, prefix1, ... of vertices [N] in the order of their numbers, [N, C] float32."""
    names = vertices.dtype.names or ()
    found = [name for name in names if re.fullmatch(rf"{prefix}\d+", name)]
    found.sort(key=lambda name: (len(name), name))
    table = np.zeros((len(vertices), len(found)), np.float32)
    for column, name in enumerate(found):
        table[:, column] = vertices[name]
    return torch.from_numpy(table)
