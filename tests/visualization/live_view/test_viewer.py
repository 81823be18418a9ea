"""The live view: it serves a page, shows what it is given, and never holds training up."""

import socket
import sys
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization.live_view import viewer as module
from gsplatloc.visualization.live_view.viewer import LiveViewer, splat_arrays


def gaussians(count: int = 5) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(count, 3, generator=generator),
        quaternions=torch.randn(count, 4, generator=generator),
        log_scales=torch.randn(count, 3, generator=generator) - 3,
        opacity_logits=torch.linspace(-2, 2, count),
        sh=torch.randn(count, 4, 3, generator=generator),
        features=torch.zeros(count, 0),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def viewer() -> Iterator[LiveViewer]:
    pytest.importorskip("viser")
    cameras = [PosedCamera(Camera(64, 48, 60, 60, 32, 24), torch.eye(4, dtype=torch.float64), "a")]
    viewer = LiveViewer("127.0.0.1", free_port(), cameras)
    yield viewer
    viewer.close()


def test_page_is_served(viewer: LiveViewer) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{viewer.port}/", timeout=10) as reply:
        assert reply.status == 200
        assert b"<html" in reply.read().lower()


def test_update_shows_the_map_and_its_figures(viewer: LiveViewer) -> None:
    viewer.update(gaussians(), 1200, {"psnr": 23.456})
    assert "| iteration | 1,200 |" in viewer.status and "| psnr | 23.46 |" in viewer.status
    assert viewer.shown == 5


def test_updates_that_come_too_soon_are_ignored(viewer: LiveViewer) -> None:
    viewer.update(gaussians(), 1, {})
    viewer.update(gaussians(7), 2, {})
    assert viewer.shown == 5


def test_a_later_update_may_have_another_number_of_gaussians(
    viewer: LiveViewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MIN_INTERVAL", 0.0)
    viewer.update(gaussians(), 1, {})
    viewer.update(gaussians(7), 2, {})
    assert viewer.shown == 7


def test_covariances_have_the_squared_scales_as_eigenvalues() -> None:
    some = gaussians()
    eigenvalues = np.linalg.eigvalsh(splat_arrays(some)["covariances"])
    np.testing.assert_allclose(eigenvalues, np.sort(some.scales.numpy() ** 2, 1), rtol=1e-4)


def test_the_faintest_are_left_out_of_a_huge_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_GAUSSIANS", 2)
    opacities = splat_arrays(gaussians())["opacities"][:, 0]
    np.testing.assert_allclose(sorted(opacities), sorted(gaussians().opacities.tolist())[-2:], rtol=1e-5)


def test_missing_viser_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(GSplatLocError, match="pip install viser"):
        LiveViewer("127.0.0.1", 8080)
