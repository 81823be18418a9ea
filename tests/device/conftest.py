"""A simulated GPU for every test of this folder."""

from collections.abc import Iterator

import pytest
import torch

from gsplatloc.gaussian_renderer import native
from tests.device.simulated import DEVICE, SimulatedGpu, simulated_package
from tests.localization.rendered_room import Room, make_room
from tests.mapping.conftest import extractor, one_thread, tiny_scene, tiny_views  # noqa: F401


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    """Within the test `cuda` is a device, and the rasterizer works on it."""
    package = native._package()
    simulated = SimulatedGpu()
    monkeypatch.setattr(native, "_package", lambda: simulated_package(package, simulated))
    monkeypatch.setattr("gsplatloc.utils.device.gpu_problem", lambda: None)
    monkeypatch.setattr("gsplatloc.gaussian_renderer.device.gpu_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: DEVICE.index)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "simulated")
    with simulated:
        yield simulated


@pytest.fixture(scope="session")
def room() -> Room:
    return make_room()
