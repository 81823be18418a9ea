"""Which device a map is put on."""

import pytest
import torch

from gsplatloc.gaussian_renderer import native
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.utils.errors import GSplatLocError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that torch sees."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")


@pytest.mark.usefixtures("gpu")
def test_auto_takes_a_gpu_that_the_rasterizer_was_built_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "cuda_problem", lambda: None)
    assert rendering_device("auto") == torch.device("cuda", 0)
    assert "cuda:0 (a GPU)" in "".join(capfd.readouterr())


@pytest.mark.usefixtures("gpu")
def test_auto_takes_the_cpu_and_says_so_where_the_rasterizer_has_no_cuda(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "cuda_problem", lambda: "built without CUDA")
    assert rendering_device("auto") == torch.device("cpu")
    assert "built without CUDA" in "".join(capfd.readouterr())


@pytest.mark.usefixtures("gpu")
def test_a_gpu_asked_for_by_name_needs_the_rasterizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "cuda_problem", lambda: "built without CUDA")
    with pytest.raises(GSplatLocError, match="built without CUDA"):
        rendering_device("cuda")
    assert rendering_device("cuda", backend="reference") == torch.device("cuda", 0)


def test_auto_takes_the_cpu_where_torch_sees_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rendering_device("auto", quiet=True) == torch.device("cpu")
    assert not "".join(capfd.readouterr())
