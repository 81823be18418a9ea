"""Devices by name."""

import pytest
import torch

from gsplatloc.utils.device import gpu_problem, torch_device
from gsplatloc.utils.errors import GSplatLocError


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_cpu_is_everywhere() -> None:
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["nonsense", "meta", ""])
def test_other_devices_are_a_user_error(name: str) -> None:
    with pytest.raises(GSplatLocError, match="--device"):
        torch_device(name)


def test_cuda_without_a_gpu_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=0)
    with pytest.raises(GSplatLocError, match="use --device cpu"):
        torch_device("cuda")


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=1)
    assert torch_device("auto") == torch.device("cuda", 0) and gpu_problem() is None


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=0)
    assert torch_device("auto") == torch.device("cpu") and gpu_problem() is not None


def test_cuda_has_an_index_like_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=2)
    assert torch_device("cuda") == torch.device("cuda", 0)
    assert torch_device("cuda:1") == torch.device("cuda", 1)


def test_a_gpu_beyond_the_last_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=2)
    with pytest.raises(GSplatLocError, match="below cuda:2"):
        torch_device("cuda:2")
