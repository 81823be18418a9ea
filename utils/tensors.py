"""Tensors in safetensors files. Equal tensors and metadata make equal files."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gsplatloc.utils.errors import decoding, quoted
from gsplatloc.utils.io import atomic_path, utf8_path

_LENGTH_BYTES = 8  # of the header's length, little-endian, at the beginning of a file


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors on any device and their metadata, atomically."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(ready, temporary, dict(metadata or {}))
        _sort_metadata(temporary)


@contextmanager
def stored_tensors(
    path: Path | str, expected: str, action: str, *formats: str, without: Collection[str] = ()
) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """The tensors of a file but those `without`, and its metadata, for the body to check and use.

    A missing or damaged file, one whose metadata name none of `formats` (if any are given), and any error of
    the body are a `GSplatLocError`: "expected EXPECTED in PATH, found ...: ACTION" (`decoding`).
    """
    with decoding(expected, path, action):
        with opened(path) as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if name not in without]  # noqa: SIM118 (not a dict)
            tensors = {name: file.get_tensor(name) for name in names}
        found = metadata.get("format", "no format name")
        if formats and found not in formats:
            raise ValueError(f"{quoted(found)} instead of {formats[0]}")
        yield tensors, metadata


@contextmanager
def opened(path: Path | str, framework: str = "pt") -> Iterator[Any]:
    """A safetensors file, open, also under a path that is not UTF-8."""
    with utf8_path(Path(path)) as readable, safe_open(readable, framework) as file:
        yield file


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
