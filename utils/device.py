"""Devices by name, checked against this machine."""

import torch

from utils.errors import GSplatLocError


def torch_device(name: str) -> torch.device:
    """The device called `name`: cpu, or cuda where there is one. Anything else is a `GSplatLocError`."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise GSplatLocError(f"expected a device cpu or cuda, found '{name}': see --device")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise GSplatLocError("expected a CUDA device, found none on this machine: use --device cpu")
    return device
