"""The device of a map: a GPU if torch finds one and the rasterizer was built for it."""

import torch

from gsplatloc.gaussian_renderer import native
from gsplatloc.utils.console import log
from gsplatloc.utils.device import AUTO, gpu_problem, torch_device
from gsplatloc.utils.errors import GSplatLocError


def rendering_device(name: str, backend: str = "native", quiet: bool = False) -> torch.device:
    """The device called `name` (auto, cpu, cuda, cuda:N) for maps rendered by `backend`.

    For `auto`, a log line names the device and the reason. Raises `GSplatLocError` if `name` is a GPU that
    cannot be used.
    """
    problem = gpu_problem() or (native.cuda_problem() if backend == "native" else None)
    if name == AUTO:
        device = torch_device("cpu" if problem else "cuda")
        reason = problem or torch.cuda.get_device_name(device)
        log(f"device     {device} ({reason})", quiet)
        return device
    device = torch_device(name)
    if device.type == "cuda" and problem:
        raise GSplatLocError(f"expected a rasterizer for device {name}, found none: {problem}")
    return device
