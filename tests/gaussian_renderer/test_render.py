"""`render`: the map goes in, a view comes out, whichever backend draws it."""

import builtins
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(40, 30, 42.0, 47.0, 18.5, 16.5)
POSE = se3.se3_exp(torch.tensor([0.05, -0.1, 0.2, 0.1, 0.05, -0.1], dtype=torch.float64))
BACKENDS = ["reference", *(["native"] if find_spec("gsplatloc_kernels") else [])]


def make_map(count: int = 40, channels: int = 4, dtype: torch.dtype = torch.float32) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Gaussians(
        means=normal(count, 3) * 0.5 + torch.tensor([0.0, 0.0, 2.5], dtype=dtype),
        quaternions=normal(count, 4),
        log_scales=normal(count, 3) * 0.3 - 2.0,
        opacity_logits=normal(count),
        sh=normal(count, 16, 3) * 0.3,
        features=normal(count, channels),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_and_types(backend: str) -> None:
    result = render(make_map(), CAMERA, POSE, RenderOptions(backend=backend, feature_size=(4, 5)))
    assert result.rgb.shape == (3, 30, 40) and result.rgb.dtype == torch.float32
    assert result.depth.shape == result.alpha.shape == (30, 40)
    assert result.features is not None and result.features.shape == (4, 4, 5)
    assert result.radii.shape == (40,) and result.radii.dtype == torch.int32


@pytest.mark.parametrize("backend", BACKENDS)
def test_features_are_rendered_only_when_asked_for(backend: str) -> None:
    assert render(make_map(), CAMERA, POSE, RenderOptions(backend=backend)).features is None
    options = RenderOptions(backend=backend, feature_size=(4, 5))
    assert render(make_map(channels=0), CAMERA, POSE, options).features is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_decoder_widens_rendered_features(backend: str) -> None:
    options = RenderOptions(backend=backend, feature_size=(4, 5))
    decoder = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    plain = render(make_map(), CAMERA, POSE, options).features
    decoded = render(replace(make_map(), feature_decoder=decoder), CAMERA, POSE, options).features
    assert plain is not None and decoded is not None
    assert torch.allclose(decoded, (decoder @ plain.flatten(1)).reshape(64, 4, 5), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("change", [{"sh_in_python": True}, {"covariance_in_python": True}])
@pytest.mark.parametrize("degree", [None, 1])
def test_evaluation_in_python_changes_nothing(
    backend: str, change: dict[str, Any], degree: int | None
) -> None:
    gaussians = make_map(dtype=torch.float64)
    pose, other = POSE.clone().requires_grad_(), POSE.clone().requires_grad_()
    plain = render(gaussians, CAMERA, pose, RenderOptions(backend=backend, sh_degree=degree))
    options = RenderOptions(backend=backend, sh_degree=degree, **change)
    in_python = render(gaussians, CAMERA, other, options)
    assert torch.allclose(plain.rgb, in_python.rgb, atol=1e-10)
    plain.rgb.square().sum().backward()
    in_python.rgb.square().sum().backward()
    assert pose.grad is not None and other.grad is not None
    assert torch.allclose(pose.grad, other.grad, rtol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pose_in_float64_gets_its_gradient_in_float64(backend: str) -> None:
    xi = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    result = render(make_map(), CAMERA, se3.se3_exp(xi) @ POSE, RenderOptions(backend=backend))
    (grad,) = torch.autograd.grad(result.rgb.sum(), xi)
    assert grad.dtype == torch.float64 and bool((grad != 0).all())


def test_the_sh_degree_in_use_is_capped_by_the_map() -> None:
    gaussians = make_map()
    low = replace(gaussians, sh=gaussians.sh[:, :4])
    asked = render(low, CAMERA, POSE, RenderOptions(sh_degree=3, backend="reference"))
    assert torch.equal(asked.rgb, render(low, CAMERA, POSE, RenderOptions(backend="reference")).rgb)


def test_an_unknown_backend_is_a_user_error() -> None:
    with pytest.raises(GSplatLocError, match="'vulkan'"):
        render(make_map(), CAMERA, POSE, RenderOptions(backend="vulkan"))


def test_a_missing_native_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_native(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "gsplatloc_kernels":
            raise ImportError("no such package")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_native)
    with pytest.raises(GSplatLocError, match="make setup"):
        render(make_map(), CAMERA, POSE, RenderOptions(backend="native"))
