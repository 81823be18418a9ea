"""Descriptors of Gaussians in a file beside their .ply: `features.safetensors`.

Row i describes Gaussian i of the .ply. The file's metadata holds the number of Gaussians and a hash of their
means, so that descriptors are never given to the Gaussians of an edited, cropped or reordered .ply.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FEATURES_NAME = "features.safetensors"
_FEATURES, _DECODER = "features", "feature_decoder"  # tensors: float16 [N, C], float32 [D, C]
_GAUSSIANS = "gaussians"  # metadata: number of Gaussians and hash of their means
_OLD_HASH = "means_blake2b"  # where the first files have the hash


def write_features(path: Path, gaussians: Gaussians) -> None:
    """Write the descriptors of `gaussians` as float16, and their decoder if they have one; atomically."""
    tensors = {_FEATURES: gaussians.features.half()}
    if gaussians.feature_decoder is not None:
        tensors[_DECODER] = gaussians.feature_decoder.float()
    write_tensors(path, tensors, {_GAUSSIANS: f"{len(gaussians)} {_hash_of_means(gaussians)}"})


def read_features(path: Path, gaussians: Gaussians) -> Gaussians:
    """`gaussians` with the descriptors in the file `path`, in float32 on the same device.

    Raises GSplatLocError if the file cannot be read or describes other Gaussians.
    """
    with stored_tensors(path, "descriptors", "train anew") as (tensors, metadata):
        count_text, _, digest = metadata[_GAUSSIANS].partition(" ")
        features, count = tensors[_FEATURES], int(count_text)
    if count != len(gaussians) or (digest or metadata.get(_OLD_HASH)) != _hash_of_means(gaussians):
        other = "" if count != len(gaussians) else " at other positions or in another order"
        raise GSplatLocError(
            f"expected descriptors of the .ply's {len(gaussians)} Gaussians in {path}, found descriptors of"
            f" {count}{other}: restore the .ply that the map was trained with, or use stages without them"
        )
    if features.ndim != 2 or len(features) != count or not bool(features.isfinite().all()):
        shape = "x".join(str(size) for size in features.shape)
        raise GSplatLocError(
            f"expected {count} finite descriptors in {path}, found {shape} numbers: train anew"
        )
    decoder = check_decoder(tensors[_DECODER], features.shape[1], path) if _DECODER in tensors else None
    # Copies: the tensors of an open safetensors file may be mapped.
    device = gaussians.device
    return replace(
        gaussians,
        features=features.to(device, torch.float32, copy=True),
        feature_decoder=None if decoder is None else decoder.to(device, torch.float32, copy=True),
    )


def check_decoder(decoder: Tensor, channels: int, path: Path) -> Tensor:
    """The decoder if it is [D, channels]; otherwise raises GSplatLocError that names the file `path`."""
    if decoder.ndim != 2 or decoder.shape[1] != channels:
        shape = "x".join(str(size) for size in decoder.shape)
        raise GSplatLocError(
            f"expected a decoder of {channels} channels in {path}, found {shape}: train anew"
        )
    return decoder


def _hash_of_means(gaussians: Gaussians) -> str:
    means = gaussians.means.detach().cpu().float().contiguous().numpy().astype("<f4")
    return hashlib.blake2b(means.tobytes(), digest_size=16).hexdigest()
