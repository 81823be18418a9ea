"""Compressed formats through the library gaussforge: `.spz`. It reads `.compressed.ply` and `.sog`, too.

The library is C++ code that some damaged files crash and that prints to the terminal. It therefore runs in a
process of its own, with a bound on its memory, and exchanges .ply files.
"""

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.formats import broken
from gsplatloc.scene.formats.ply import Ply
from gsplatloc.scene.formats.seen_colours import StoredHarmonics
from gsplatloc.scene.formats.values import capped, logits, with_axes
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path

_CONVERT = """
import sys, gaussforge
source, source_format, target, target_format, limit = sys.argv[1:]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), resource.getrlimit(resource.RLIMIT_AS)[1]))
except (ImportError, ValueError, OSError):
    pass
found = gaussforge.GaussForge().convert(open(source, "rb").read(), source_format, target_format)
if not found.get("data"):
    sys.exit(found.get("error", "nothing that can be read"))
open(target, "wb").write(found["data"])
"""
_MEMORY, _PER_BYTE = 2 << 30, 200  # bytes of the process, and more of them per byte of the file
_RUB = (1, -1, -1)  # axes of .spz (right, up, back) in those of .ply (right, down, front)
_STEPS = (1 / 16, 1 / 8)  # of .spz's higher harmonics over [-1, 1]: of degree 1, and beyond
_SPZ_SIDE = 2048  # units from the origin: 24 bits with a sign, 12 of them behind the point


class Converted:
    """Reading and writing of a format that the library converts to and from .ply."""

    library_name: str

    def read(self, path: Path) -> Gaussians:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "splat.ply"
            _run(path, self.library_name, plain, "ply", path)
            found = self.from_file(Ply().read(plain))
        bound = float(logits(np.ones(1))[0])  # bytes of 0 and 255 are read as infinite logits
        return replace(found, opacity_logits=found.opacity_logits.clamp(-bound, bound))

    def write(self, path: Path, gaussians: Gaussians) -> None:
        gaussians = self.for_file(capped(gaussians), path)
        with tempfile.TemporaryDirectory() as folder, atomic_path(path) as temporary:
            plain = Path(folder) / "splat.ply"
            Ply().write(plain, gaussians)
            _run(plain, "ply", temporary, self.library_name, path)

    def from_file(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians as the library read them -> in the axes of a .ply."""
        return gaussians

    def for_file(self, gaussians: Gaussians, path: Path) -> Gaussians:
        """Gaussians in the axes of a .ply -> as the library writes them best."""
        return gaussians


class Spz(Converted):
    """Written in version 3, which most viewers read."""

    name, suffix, library_name = "spz", ".spz", "spz"
    changes = "positions are rounded to 1/4096, the rest to 8 bits and fewer"

    def matches(self, path: Path, head: bytes) -> bool:
        return head.startswith((b"NGSP", b"\x1f\x8b"))

    def from_file(self, gaussians: Gaussians) -> Gaussians:
        return with_axes(gaussians, _RUB)

    def for_file(self, gaussians: Gaussians, path: Path) -> Gaussians:
        farthest = float(gaussians.means.abs().max())
        if farthest >= _SPZ_SIDE:
            raise GSplatLocError(
                f"expected Gaussians within {_SPZ_SIDE} units of the origin for {path}, found one at"
                f" {farthest:.6g}: pass --crop, or choose another --format"
            )
        return with_axes(gaussians, _RUB)

    def stored_harmonics(self, sh: Tensor) -> StoredHarmonics:
        parts = zip(sh[:, 1:].split((3, sh.shape[1] - 4), 1), _STEPS) if sh.shape[1] > 1 else ()
        rounded = [(step * (part / step).round()).clamp(-1, 1) for part, step in parts]
        return StoredHarmonics(torch.cat([sh[:, :1], *rounded], 1), slice(0, 1))


def available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("gaussforge") is not None


def _run(source: Path, source_format: str, target: Path, target_format: str, named: Path) -> None:
    """Convert a file; raises `GSplatLocError` that names the file `named`."""
    if not available():
        raise GSplatLocError(
            f'expected the library gaussforge for {named}, found none: run pip install "gsplatloc[formats]"'
        )
    limit = _MEMORY + _PER_BYTE * source.stat().st_size
    words = [str(source), source_format, str(target), target_format, str(limit)]
    # -P: a file called gaussforge.py in the current folder is not imported.
    done = subprocess.run([sys.executable, "-P", "-c", _CONVERT, *words], capture_output=True, check=False)
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").split("\n")
    reason = next((line for line in reversed(lines) if line.strip()), "nothing")
    found = reason if done.returncode > 0 else f"data that ends the reader (signal {-done.returncode})"
    if source == named:
        raise broken(named, found)
    raise GSplatLocError(f"expected {named} to be written, found {found}: choose another --format")
