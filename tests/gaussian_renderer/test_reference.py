"""The oracle itself, against what can be computed by hand."""

import math

import pytest
import torch

from gsplatloc.gaussian_renderer import reference
from gsplatloc.gaussian_renderer.options import RenderOptions, Splats
from gsplatloc.scene.cameras import Camera

CAMERA = Camera(32, 24, 40.0, 44.0, 15.0, 13.0)
F64 = torch.float64


def splats(depths: list[float], opacity: float = 0.6, scale: float = 0.05) -> Splats:
    """Gaussians on the ray of pixel (10.5, 12.5), one per depth, coloured by index."""
    count = len(depths)
    z = torch.tensor(depths, dtype=F64)
    x, y = (10.5 - CAMERA.cx) / CAMERA.fx, (12.5 - CAMERA.cy) / CAMERA.fy
    return Splats(
        means=torch.stack([x * z, y * z, z], 1),
        opacities=torch.full((count,), opacity, dtype=F64),
        quaternions=torch.tensor([[1.0, 0, 0, 0]], dtype=F64).expand(count, 4),
        scales=torch.full((count, 3), scale, dtype=F64),
        colors=torch.eye(3, dtype=F64)[:count],
    )


def rasterize(scene: Splats, **options: float) -> reference.RenderResult:
    return reference.rasterize(scene, CAMERA, torch.eye(4, dtype=F64), RenderOptions(**options))  # type: ignore[arg-type]


def test_blending_of_three_layers() -> None:
    result = rasterize(splats([2.0, 1.0, 3.0]))
    # Front to back 1, 2, 3 metres: weights 0.6, 0.4 * 0.6, 0.4^2 * 0.6.
    weights = [0.6, 0.24, 0.096]
    assert result.rgb[:, 12, 10].tolist() == pytest.approx([weights[1], weights[0], weights[2]])
    assert result.alpha[12, 10].item() == pytest.approx(1 - 0.4**3)
    depth = (weights[0] * 1 + weights[1] * 2 + weights[2] * 3) / sum(weights)
    assert result.depth[12, 10].item() == pytest.approx(depth)


def test_blending_stops_before_one_in_ten_thousand() -> None:
    result = rasterize(splats([1.0, 2.0, 3.0], opacity=0.99))
    # After two layers T = 1e-4; a third would pass the limit, so it is not drawn.
    assert result.rgb[2, 12, 10].item() == 0


def test_a_gaussian_has_the_size_of_its_projection() -> None:
    result = rasterize(splats([2.0], scale=0.1))
    variance = (0.1 * CAMERA.fx / 2) ** 2
    ray = (10.5 - CAMERA.cx) / CAMERA.fx
    expected = 0.6 * math.exp(-0.5 * 3.0**2 / (variance * (1 + ray**2) + 0.3))
    assert result.alpha[12, 13].item() == pytest.approx(expected, rel=1e-5)


def test_covariances_rotate_with_their_quaternion() -> None:
    half = math.sqrt(0.5)
    about_z = torch.tensor([[half, 0, 0, half]], dtype=F64)  # a quarter turn: x to y
    packed = reference.covariances(about_z, torch.tensor([[3.0, 1.0, 2.0]], dtype=F64))
    assert packed[0].tolist() == pytest.approx([1, 0, 0, 9, 0, 4], abs=1e-12)


def test_chunks_of_pixels_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rasterize(splats([2.0, 1.0, 3.0]))
    monkeypatch.setattr(reference, "_CHUNK_ELEMENTS", 100)
    assert torch.equal(rasterize(splats([2.0, 1.0, 3.0])).rgb, whole.rgb)
