"""Forked processes: they inherit the state of thread pools, but not their threads."""

import os

import cv2
import torch

from gsplatloc.utils.errors import GSplatLocError

_process = os.getpid()  # that computes with the threads of OpenMP and OpenCV


def after_fork(device: torch.device) -> None:
    """In a process that was forked since the last call, compute on one thread from now on.

    OpenMP (torch) and OpenCV would wait for ever for the threads of the parent. A GPU cannot be used in a
    fork of a process that has used it: `GSplatLocError`.
    """
    global _process
    if os.getpid() == _process:
        return
    if device.type == "cuda":
        raise GSplatLocError(
            "expected a new process for each localizer on a GPU, found a fork: start it by"
            " multiprocessing.get_context('spawn'), or load the map with device cpu"
        )
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    _process = os.getpid()
