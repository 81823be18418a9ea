"""Maps on disk: the .ply that every splat viewer opens, with descriptors as extra `semantic_*` properties."""

import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.ply import read_vertices, write_vertices
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path

_REQUIRED = ("x", "y", "z", *(f"f_dc_{i}" for i in range(3)), "opacity")
_REQUIRED += (*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)))
DECODER_NAME = "feature_decoder.safetensors"


def ply_path(map_dir: Path | str, iteration: int) -> Path:
    """Where a map keeps the Gaussians of an iteration."""
    return Path(map_dir) / "point_cloud" / f"iteration_{iteration}" / "point_cloud.ply"


def saved_iterations(map_dir: Path | str) -> list[int]:
    """The iterations that a map was saved at, ascending."""
    folders = Path(map_dir).glob("point_cloud/iteration_*/point_cloud.ply")
    found = (re.fullmatch(r"iteration_(\d+)", path.parent.name) for path in folders)
    return sorted(int(match[1]) for match in found if match)


def save_gaussians(map_dir: Path | str, iteration: int, gaussians: Gaussians) -> Path:
    """Write the Gaussians of an iteration, and their decoder beside them; returns the .ply."""
    path = ply_path(map_dir, iteration)
    if gaussians.feature_decoder is not None:
        with atomic_path(path.parent / DECODER_NAME) as temporary:
            decoder = gaussians.feature_decoder.detach().cpu().contiguous()
            save_file({"feature_decoder": decoder}, temporary)
    write_ply(path, gaussians)
    return path


def report_later_iterations(map_dir: Path | str, iteration: int) -> None:
    """Say on stderr where a run ended at an earlier iteration than the one before it did."""
    later = [number for number in saved_iterations(map_dir) if number > iteration]
    if later:
        log(
            f"{map_dir}: iteration {later[-1]} of an earlier run is still there and taken for the latest:"
            f" remove it, or pass --iteration {iteration}",
            stream=sys.stderr,
        )


def load_gaussians(map_dir: Path | str, iteration: int | None = None) -> Gaussians:
    """The Gaussians of a map (its latest iteration by default), or of any .ply of 3D Gaussians.

    Raises GSplatLocError where there are none.
    """
    map_dir = Path(map_dir)
    if map_dir.suffix == ".ply":
        path = map_dir
    else:
        iterations = saved_iterations(map_dir)
        if not iterations:
            raise GSplatLocError(
                f"expected a map in {map_dir}, found no point_cloud/iteration_*/point_cloud.ply: run train.py"
            )
        if iteration is not None and iteration not in iterations:
            raise GSplatLocError(f"expected iteration {iteration} in {map_dir}, found only {iterations}")
        path = ply_path(map_dir, iterations[-1] if iteration is None else iteration)
    gaussians = read_ply(path)
    decoder = path.parent / DECODER_NAME
    if decoder.is_file():
        gaussians.feature_decoder = _read_decoder(decoder, gaussians.features.shape[1])
    return gaussians


def _read_decoder(path: Path, channels: int) -> torch.Tensor:
    """The decoder [D, channels] of a map."""
    try:
        decoder = load_file(path)["feature_decoder"]
    except (SafetensorError, OSError, KeyError) as error:
        raise GSplatLocError(f"expected a feature decoder in {path}, found {error}: train anew") from None
    if decoder.ndim != 2 or decoder.shape[1] != channels:
        shape = "x".join(str(size) for size in decoder.shape)
        raise GSplatLocError(
            f"expected a decoder of {channels} channels in {path}, found {shape}: train anew"
        )
    return decoder


def write_ply(path: Path | str, gaussians: Gaussians) -> None:
    """Write Gaussians with the property names of 3D Gaussian splatting, in optimisation space, as float32.

    SH beyond degree 0 go channel by channel: f_rest_0 .. f_rest_{K-2} are red's.
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
        ([f"semantic_{i}" for i in range(columns["features"].shape[1])], columns["features"]),
    ]
    names = [name for group, _ in groups for name in group]
    table = torch.cat([values for _, values in groups], 1).numpy()
    write_vertices(path, np.ascontiguousarray(table).view(np.dtype([(name, "<f4") for name in names]))[:, 0])


def read_ply(path: Path | str) -> Gaussians:
    """Read Gaussians from a .ply of any splatting tool; descriptors have zero channels where it has none."""
    vertices = read_vertices(path)
    names = vertices.dtype.names or ()
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise GSplatLocError(
            f"expected 3D Gaussians in {path}, found no property '{missing[0]}': pass a splat"
        )

    def columns(prefix: str) -> torch.Tensor:  # [N, C]
        found = [name for name in names if re.fullmatch(rf"{prefix}\d+", name)]
        found.sort(key=lambda name: int(name.removeprefix(prefix)))
        table = np.zeros((len(vertices), len(found)), np.float32)
        for column, name in enumerate(found):
            table[:, column] = vertices[name]
        return torch.from_numpy(table)

    positions = np.stack([vertices[axis].astype(np.float32) for axis in "xyz"], 1)
    base, rest = columns("f_dc_"), columns("f_rest_")
    if rest.shape[1] not in (0, 9, 24, 45, 72):
        raise GSplatLocError(f"expected 0, 9, 24, 45 or 72 f_rest_* in {path}, found {rest.shape[1]}")
    rest = rest.reshape(len(vertices), 3, rest.shape[1] // 3).transpose(1, 2)
    gaussians = Gaussians(
        means=torch.from_numpy(positions),
        quaternions=columns("rot_"),
        log_scales=columns("scale_"),
        opacity_logits=torch.from_numpy(vertices["opacity"].astype(np.float32)),
        sh=torch.cat([base[:, None], rest], 1).contiguous(),
        features=columns("semantic_"),
    )
    for name, tensor in gaussians.per_gaussian().items():
        if not bool(tensor.isfinite().all()):
            raise GSplatLocError(f"expected finite {name} in {path}, found NaN or infinity: train anew")
    return gaussians
