"""Devices by name, with errors for those that this machine does not have."""

import torch

from gsplatloc.utils.errors import GSplatLocError

AUTO = "auto"  # a GPU if there is one that can be used, otherwise the CPU


def gpu_problem() -> str | None:
    """The reason why torch cannot use a GPU here; None if it can."""
    if torch.cuda.is_available():
        return None
    return "torch sees no GPU" if torch.version.cuda else "this torch was built without CUDA"


def torch_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:N, or auto (a GPU if one can be used, otherwise the CPU).

    CUDA devices have an index, so that they are equal to the devices of their tensors. Raises
    `GSplatLocError` for any other name and for a GPU that does not exist.
    """
    problem = gpu_problem()
    if name == AUTO:
        name = "cpu" if problem else "cuda"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise GSplatLocError(f"expected a device auto, cpu, cuda or cuda:N, found '{name}': see --device")
    if device.type == "cpu":
        return torch.device("cpu")
    if problem:
        raise GSplatLocError(f"expected a GPU for device {name}, found none ({problem}): use --device cpu")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise GSplatLocError(
            f"expected a GPU below cuda:{torch.cuda.device_count()}, found '{name}': see --device"
        )
    return torch.device("cuda", index)
