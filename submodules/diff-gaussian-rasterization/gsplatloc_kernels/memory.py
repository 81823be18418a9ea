"""Memory for the gradients of many Gaussians, most of which an image does not show."""

import mmap
import sys
from contextlib import suppress

import torch
from torch import Tensor

_LARGE = 32 << 20  # bytes: malloc returns larger blocks to the system when they are freed


def comes_fresh(tensor: Tensor) -> bool:
    """Whether `zeros_like(tensor)` consists of pages that have not been written yet."""
    large = tensor.numel() * tensor.element_size() > _LARGE
    return sys.platform == "linux" and tensor.device.type == "cpu" and large


def zeros_like(tensor: Tensor) -> Tensor:
    """Contiguous zeros of a tensor's shape, type and device.

    Large ones are pages that the system clears when they are first touched, huge ones where it has them:
    clearing them once more would cost as much again, and page faults by 4 KiB more than that.
    """
    if not comes_fresh(tensor):
        return torch.zeros_like(tensor)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    pages = mmap.mmap(-1, tensor.numel() * tensor.element_size(), flags=flags)
    with suppress(OSError):  # a kernel without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape)
