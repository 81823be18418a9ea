"""Devices by name."""

import pytest
import torch

from utils.device import torch_device
from utils.errors import GSplatLocError


def test_cpu_is_everywhere() -> None:
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["nonsense", "meta", ""])
def test_other_devices_are_a_user_error(name: str) -> None:
    with pytest.raises(GSplatLocError, match="--device"):
        torch_device(name)


def test_cuda_without_a_gpu_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GSplatLocError, match="use --device cpu"):
        torch_device("cuda")
