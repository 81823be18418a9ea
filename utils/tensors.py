"""Tensors in safetensors files, written so that equal content makes equal files."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from gsplatloc.utils.io import atomic_path

_LENGTH_BYTES = 8  # of the header's length, little-endian, at the beginning of a file


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors on any device and their metadata, atomically."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(ready, temporary, dict(metadata))
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in the header of a file: safetensors writes them in random order."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(_LENGTH_BYTES)
            file.write(text.ljust(length))
