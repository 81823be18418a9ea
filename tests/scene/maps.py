"""Maps for the tests of this folder: random Gaussians, and files as earlier versions wrote them."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from gsplatloc.scene import export
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.ply import read_vertices, write_vertices


def make_gaussians(count: int = 5, degree: int = 2, channels: int = 4) -> Gaussians:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sh = draw(count, (degree + 1) ** 2, 3)
    return Gaussians(draw(count, 3), draw(count, 4), draw(count, 3), draw(count), sh, draw(count, channels))


def write_old_map(folder: Path, gaussians: Gaussians) -> Path:
    """A map as versions up to 0.1 wrote it: descriptors in the .ply, the decoder beside it."""
    export.write_splat(path := export.ply_path(folder, 1), gaussians)
    standard = read_vertices(path)
    channels = gaussians.features.shape[1]
    fields = [*standard.dtype.descr, *((f"semantic_{i}", "<f4") for i in range(channels))]
    vertices = np.zeros(len(standard), fields)
    for name in standard.dtype.names or ():
        vertices[name] = standard[name]
    for i in range(channels):
        vertices[f"semantic_{i}"] = gaussians.features[:, i]
    write_vertices(path, vertices)
    if gaussians.feature_decoder is not None:
        save_file(
            {"feature_decoder": gaussians.feature_decoder}, path.with_name("feature_decoder.safetensors")
        )
    return path
