"""The .ply of 3D Gaussian splatting, as any tool writes it; what the map itself is stored in."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gsplatloc.scene.formats.values import sh_of_rgb, splat_of_arrays
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.ply import read_vertices, write_vertices
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

OLD_FEATURE_PREFIX = "semantic_"  # descriptors in maps of versions up to 0.1
_REQUIRED = ("x", "y", "z", "scale_0")  # a point cloud has no scales
_SH_REST_COUNTS = (0, 9, 24, 45, 72)  # of f_rest_* properties, degree 0 to 4
_OPAQUE, _FLAT = 30.0, -7.0  # opacity logit; log of thickness / width of a disc (2D Gaussian splatting)


class Ply:
    """Stored parameters as float32 (reads any type; positions of float64 keep it), properties by name."""

    name, suffix, changes = "ply", ".ply", ""

    def matches(self, path: Path, head: bytes) -> bool:
        return path.suffix.lower() == ".ply" or head.startswith(b"ply")

    def read(self, path: Path) -> Gaussians:
        vertices = read_vertices(path, lambda name: not name.startswith(OLD_FEATURE_PREFIX))
        names = vertices.dtype.names or ()
        missing = [name for name in _REQUIRED if name not in names]
        if missing:
            raise GSplatLocError(
                f"expected 3D Gaussians in {path}, found no property '{missing[0]}': pass a splat"
            )
        rest = columns(vertices, "f_rest_")
        if rest.shape[1] not in _SH_REST_COUNTS:
            raise GSplatLocError(f"expected 0, 9, 24, 45 or 72 f_rest_* in {path}, found {rest.shape[1]}")
        assumed: list[str] = []
        means = np.stack([vertices[axis] for axis in "xyz"], 1)
        scales, opacities = _log_scales(vertices, assumed), _opacity_logits(vertices, assumed)
        if "filter_3D" in names:
            assumed.append("the 3D filter of Mip-Splatting, applied")
            scales, opacities = _filtered(scales, opacities, vertices["filter_3D"])
        values = {
            "means": means,
            "scales": scales,
            "quaternions": _quaternions(vertices, path, assumed),
            "opacities": opacities,
            "base": _base_colours(vertices, assumed),
        }
        if assumed:
            log(f"{path}: {'; '.join(assumed)}", stream=sys.stderr)
        rest = rest.reshape(len(rest), 3, rest.shape[1] // 3).transpose(0, 2, 1)
        splat = splat_of_arrays(**values, rest=rest)
        if means.dtype != np.float64:
            return splat
        return replace(splat, means=torch.from_numpy(means.astype(np.float64)))  # in the machine's byte order

    def write(self, path: Path, gaussians: Gaussians) -> None:
        """SH coefficients beyond degree 0 go channel by channel: f_rest_0 .. f_rest_{K-2} belong to red."""
        values = {name: tensor.detach().cpu().float() for name, tensor in gaussians.per_gaussian().items()}
        rest = values["sh"][:, 1:].transpose(1, 2).flatten(1)
        groups = [
            (["x", "y", "z"], values["means"]),
            (["nx", "ny", "nz"], torch.zeros_like(values["means"])),
            ([f"f_dc_{i}" for i in range(3)], values["sh"][:, 0]),
            ([f"f_rest_{i}" for i in range(rest.shape[1])], rest),
            (["opacity"], values["opacity_logits"][:, None]),
            ([f"scale_{i}" for i in range(3)], values["log_scales"]),
            ([f"rot_{i}" for i in range(4)], values["quaternions"]),
        ]
        names = [name for group, _ in groups for name in group]
        table = np.ascontiguousarray(torch.cat([block for _, block in groups], 1).numpy())
        write_vertices(path, table.view(np.dtype([(name, "<f4") for name in names]))[:, 0])


def columns(vertices: np.ndarray, prefix: str) -> np.ndarray:
    """The properties prefix0, prefix1, ... of vertices [N] in the order of their numbers, [N, C] float32."""
    names = vertices.dtype.names or ()
    found = [name for name in names if re.fullmatch(rf"{prefix}\d+", name)]
    found.sort(key=lambda name: (len(name), name))
    table = np.zeros((len(vertices), len(found)), np.float32)
    for column, name in enumerate(found):
        table[:, column] = vertices[name]
    return table


def _log_scales(vertices: np.ndarray, assumed: list[str]) -> np.ndarray:
    """[N, 3]. One scale is that of a ball, two are those of a disc (2D Gaussian splatting)."""
    scales = columns(vertices, "scale_")
    if scales.shape[1] == 1:
        assumed.append("one scale, taken as balls")
        return np.repeat(scales, 3, 1)
    if scales.shape[1] == 2:
        assumed.append("two scales, taken as thin discs")
        return np.column_stack([scales, scales.max(1) + _FLAT])
    return scales[:, :3]


def _quaternions(vertices: np.ndarray, path: Path, assumed: list[str]) -> np.ndarray:
    found = columns(vertices, "rot_")
    if found.shape[1] not in (0, 4):
        raise GSplatLocError(
            f"expected rot_0 to rot_3 in {path}, found {found.shape[1]} of them: pass a splat"
        )
    if found.shape[1] == 0:
        assumed.append("no rotations, taken as none")
        return np.tile(np.array([1, 0, 0, 0], np.float32), (len(vertices), 1))
    return found


def _opacity_logits(vertices: np.ndarray, assumed: list[str]) -> np.ndarray:
    if "opacity" not in (vertices.dtype.names or ()):
        assumed.append("no opacities, taken as opaque")
        return np.full(len(vertices), _OPAQUE, np.float32)
    return vertices["opacity"].astype(np.float32)


def _filtered(
    log_scales: np.ndarray, opacity_logits: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log scales [N, 3] and opacity logits [N] after a blur of `sigma` [N] that keeps the mass of Gaussians.

    Yu et al., "Mip-Splatting" (CVPR 2024), whose files hold both apart.
    """
    with np.errstate(divide="ignore", over="ignore"):
        blurred = np.logaddexp(2 * log_scales, 2 * np.log(np.abs(sigma))[:, None]) / 2
        opacity = np.exp((log_scales - blurred).sum(1)) / (1 + np.exp(-opacity_logits))
        return blurred.astype(np.float32), (np.log(opacity) - np.log1p(-opacity)).astype(np.float32)


def _base_colours(vertices: np.ndarray, assumed: list[str]) -> np.ndarray:
    """Coefficients of degree 0 [N, 3]; else from red, green, blue, of 8 or 16 bits or floats in [0, 1]."""
    names = vertices.dtype.names or ()
    if "f_dc_0" in names:
        found = columns(vertices, "f_dc_")
        if found.shape[1] == 2:
            raise GSplatLocError("expected f_dc_0 to f_dc_2 in a splat, found 2 of them: export it again")
        return np.repeat(found, 3, 1) if found.shape[1] == 1 else found[:, :3]
    for channels in (("red", "green", "blue"), ("r", "g", "b")):
        if set(channels) <= set(names):
            levels = [
                np.iinfo(vertices[c].dtype).max if vertices[c].dtype.kind in "iu" else 1 for c in channels
            ]
            return sh_of_rgb(np.stack([vertices[c] / level for c, level in zip(channels, levels)], 1))
    assumed.append("no colours, taken as grey")
    return np.zeros((len(vertices), 3), np.float32)
