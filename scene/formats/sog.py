"""`.sog` (PlayCanvas, version 2): lossless WebP textures in a zip archive, one pixel per Gaussian.

Reading is left to the library gaussforge. Its writer compares the harmonics of every Gaussian with a palette
of 65,536, which takes minutes; here the palette is found by halving the Gaussians again and again.
"""

import json
import math
import zipfile
from pathlib import Path

import cv2
import numpy as np

from gsplatloc.scene.formats.gaussforge import Converted
from gsplatloc.scene.formats.values import capped, smaller_components, unit_quaternions
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.spatial_order import spatial_order
from gsplatloc.utils.io import atomic_path

_LEVELS = 256  # of a codebook
_LLOYD = 20  # iterations that improve a codebook
_MAX_PALETTE = 16  # log2 of the entries that two bytes can name
_PER_ROW = 64  # palette entries in a row of their texture
_LARGEST = 252  # alpha of a rotation whose largest component is w; x, y, z follow
_LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]


class Sog(Converted):
    """Textures in a zip archive."""

    name, suffix, library_name = "sog", ".sog", "sog"
    changes = (
        "Gaussians are reordered, positions have 16 bits, harmonics share a palette, the rest has 8 bits"
    )

    def matches(self, path: Path, head: bytes) -> bool:
        return head.startswith(b"PK\x03\x04")

    def write(self, path: Path, gaussians: Gaussians) -> None:
        gaussians = capped(gaussians)
        gaussians = gaussians.select(spatial_order(gaussians.means))
        side = math.ceil(math.sqrt(len(gaussians)))
        images: dict[str, np.ndarray] = {}
        meta: dict[str, object] = {"version": 2, "count": len(gaussians), "antialias": False}

        def put(key: str, textures: dict[str, np.ndarray], **entries: object) -> None:
            images.update({f"{name}.webp": texture for name, texture in textures.items()})
            meta[key] = {**entries, "files": [f"{name}.webp" for name in textures]}

        low, high, mins, maxs = _positions(gaussians.means.double().numpy())
        put("means", {"means_l": _texture(low, side), "means_u": _texture(high, side)}, mins=mins, maxs=maxs)
        codebook, levels = _quantised(gaussians.log_scales.double().numpy())
        put("scales", {"scales": _texture(levels, side)}, codebook=codebook)
        put("quats", {"quats": _texture(_rotations(unit_quaternions(gaussians)), side)})
        codebook, levels = _quantised(gaussians.sh[:, 0].double().numpy())
        alpha = np.round(255 * gaussians.opacities.double().numpy()).astype(np.uint8)
        put("sh0", {"sh0": _texture(np.column_stack([levels, alpha]), side)}, codebook=codebook)
        if gaussians.sh.shape[1] > 1:
            palette, labels = _palette(gaussians.sh[:, 1:].flatten(1).numpy())
            codebook, levels = _quantised(palette)
            rows = math.ceil(len(palette) / _PER_ROW)
            colors = np.zeros((rows * _PER_ROW, levels.shape[1]), np.uint8)
            colors[: len(levels)] = levels
            entries = {"shN_centroids": colors.reshape(rows, -1, 3)}
            pixels = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)]).astype(np.uint8)
            entries["shN_labels"] = _texture(pixels, side)
            bands = math.isqrt(gaussians.sh.shape[1]) - 1
            put("shN", entries, count=len(palette), bands=bands, codebook=codebook)
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, image in images.items():
                # OpenCV has blue first.
                order = [2, 1, 0, 3][: image.shape[2]]
                coded = cv2.imencode(".webp", np.ascontiguousarray(image[..., order]), _LOSSLESS)[1]
                archive.writestr(name, coded.tobytes())
            archive.writestr("meta.json", json.dumps(meta))


def _texture(pixels: np.ndarray, side: int) -> np.ndarray:
    """Rows [N, 3 or 4] of bytes as an image [side or fewer, side, 3 or 4]."""
    image = np.full((math.ceil(len(pixels) / side) * side, pixels.shape[1]), 255, np.uint8)
    image[: len(pixels)] = pixels
    return image.reshape(-1, side, pixels.shape[1])


def _positions(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float], list[float]]:
    """Low and high bytes [N, 3] of sign(x) log(1 + |x|) between its least and greatest values, and these."""
    values = np.sign(means) * np.log1p(np.abs(means))
    least, most = values.min(0), values.max(0)
    levels = np.round((values - least) / np.maximum(most - least, 1e-30) * 65535).astype(np.int64)
    return (levels & 255).astype(np.uint8), (levels >> 8).astype(np.uint8), least.tolist(), most.tolist()


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """The three smaller components [N, 4] of quaternions wxyz, and which one is left out."""
    largest, others = smaller_components(quaternions)
    return np.column_stack([np.round(255 * others), _LARGEST + largest]).astype(np.uint8)


def _quantised(values: np.ndarray) -> tuple[list[float], np.ndarray]:
    """256 ascending levels that represent `values` with small squared error, and the level of each value."""
    ordered = np.sort(values, axis=None).astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    half = (np.arange(_LEVELS // 2) + 0.5) / (_LEVELS // 2)
    levels = np.sort(np.r_[np.quantile(ordered, half), ordered[0] + half * (ordered[-1] - ordered[0])])
    for _ in range(_LLOYD):
        ends = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        starts, ends = np.r_[0, ends], np.r_[ends, len(ordered)]
        counts = ends - starts
        levels = np.where(counts > 0, (total[ends] - total[starts]) / np.maximum(counts, 1), levels)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    return levels.tolist(), nearest.astype(np.uint8)


def _palette(harmonics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries [P, C] that stand for the rows of `harmonics` [N, C], and the entry of each row.

    All rows are halved at the median of the component in which they differ most, then each half, and so on.
    """
    depth = min(_MAX_PALETTE, max(0, math.ceil(math.log2(len(harmonics)))))
    order, bounds = np.arange(len(harmonics)), np.array([0, len(harmonics)])
    for _ in range(depth):
        group = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        widest = _spreads(harmonics, order, bounds).argmax(1)
        order = order[np.lexsort((harmonics[order, widest[group]], group))]
        bounds = np.unique(np.r_[bounds, (bounds[:-1] + bounds[1:]) // 2])
    counts = np.diff(bounds)
    entries = np.add.reduceat(harmonics[order].astype(np.float64), bounds[:-1]) / counts[:, None]
    labels = np.empty(len(harmonics), np.int64)
    labels[order] = np.repeat(np.arange(len(counts)), counts)
    return entries, labels


def _spreads(harmonics: np.ndarray, order: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The variance [G, C] of every component in every group of rows, one component in memory at a time."""
    count, variances = np.diff(bounds), []
    for component in harmonics.T:
        values = component[order].astype(np.float64)
        mean = np.add.reduceat(values, bounds[:-1]) / count
        variances.append(np.add.reduceat(values**2, bounds[:-1]) / count - mean**2)
    return np.stack(variances, 1)
