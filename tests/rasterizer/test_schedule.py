"""The schedule must not show: threads, instruction sets, and sizes that strain memory."""

import subprocess
import sys

import pytest
import torch

import gsplatloc_kernels as native
from gsplatloc.gaussian_renderer.options import RenderResult
from tests.rasterizer.support import (
    CAMERA,
    Inputs,
    available_isas,
    gradients,
    make_inputs,
    render_native,
    weighted_sum,
    with_options,
)

_OPTIONS = with_options(feature_size=(9, 11), features_move_geometry=True)


def render_with_threads(threads: int, inputs: Inputs) -> tuple[RenderResult, Inputs]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return render_native(inputs, _OPTIONS), gradients(render_native, inputs, _OPTIONS)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [100, 5000])
def test_results_do_not_depend_on_the_thread_count(count: int) -> None:
    inputs = make_inputs(count, 8, dtype=torch.float32)
    one, one_gradients = render_with_threads(1, inputs)
    # Not more threads than processors: torch.get_num_threads() above that is cut to their number.
    two, two_gradients = render_with_threads(2, inputs)
    for name in ("rgb", "depth", "alpha", "features", "radii"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    for name in inputs:
        assert torch.equal(one_gradients[name], two_gradients[name]), name


def test_results_over_many_tiles_do_not_depend_on_the_thread_count() -> None:
    """As above, where both the image and the feature map have more tiles than there are threads."""
    inputs, camera = make_inputs(5000, 8, dtype=torch.float32), CAMERA.resized(320, 240)
    options = with_options(feature_size=(60, 80))

    def render(leaves: Inputs) -> RenderResult:
        return render_native(leaves, options, camera)

    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((render(inputs), gradients(render, inputs)))
    finally:
        torch.set_num_threads(before)
    (one, one_gradients), (two, two_gradients) = results
    for name in ("rgb", "depth", "alpha", "features", "radii"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    for name in inputs:
        assert torch.equal(one_gradients[name], two_gradients[name]), name


@pytest.mark.parametrize("size", [(60, 80), (150, 110), (60, 512), (64, 500), (40, 560), (230, 230)])
def test_small_feature_maps_are_binned_like_images(size: tuple[int, int]) -> None:
    """Maps of few tiles have a bit for each (in one word, in three), others lists, as images have."""
    inputs, options = make_inputs(2000, 5), with_options(feature_size=size, features_move_geometry=True)
    maps, grads = [], []
    for scale in (1, 2):  # of the image to the map
        leaves = {name: inputs[name].clone().requires_grad_() for name in ("features", "means", "opacities")}
        own = inputs | leaves | {"screen_offsets": scale * inputs["screen_offsets"]}
        rendered = render_native(own, options, CAMERA.resized(scale * size[1], scale * size[0])).features
        assert rendered is not None
        maps.append(rendered.detach())
        grads.append(torch.autograd.grad(rendered.square().sum(), list(leaves.values())))
    assert torch.allclose(maps[0], maps[1], rtol=0, atol=1e-11)
    for image, half in zip(*grads, strict=True):
        assert (image - half).abs().max().item() < 1e-9 * image.abs().max().item()


@pytest.mark.parametrize("dtype,relative", [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_every_instruction_set_agrees(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, relative: float
) -> None:
    inputs = make_inputs(300, 21, dtype=dtype)
    results, grads = {}, {}
    for isa in available_isas():
        monkeypatch.setenv("GSPLAT_ISA", isa)
        assert native.isa() == isa
        results[isa] = render_native(inputs, _OPTIONS)
        grads[isa] = gradients(render_native, inputs, _OPTIONS)
    for isa in results:
        for name in ("rgb", "depth", "alpha", "features"):
            difference = getattr(results[isa], name) - getattr(results["portable"], name)
            assert difference.abs().max().item() < relative, (isa, name)
        for name in inputs:
            expected = grads["portable"][name]
            difference = (grads[isa][name] - expected).abs().max() / expected.abs().max()
            assert difference.item() < 5 * relative, (isa, name)


def test_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GSPLAT_ISA", "quantum")
    with pytest.raises(ValueError, match="GSPLAT_ISA"):
        render_native(make_inputs(3))


def test_a_million_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 1_000_000
    inputs = {
        "means": torch.rand(count, 3, generator=generator) * 2 + torch.tensor([-1.0, -1.0, 2.0]),
        "quaternions": torch.randn(count, 4, generator=generator),
        "scales": torch.full((count, 3), 0.003),
        "opacities": torch.rand(count, generator=generator),
        "colors": torch.rand(count, 3, generator=generator),
        "cam_from_world": torch.eye(4),
    }
    inputs["means"].requires_grad_()
    result = render_native(inputs)
    weighted_sum(result).backward()
    grad = inputs["means"].grad
    assert bool(torch.isfinite(result.rgb).all()) and result.radii.count_nonzero() > 100_000
    assert grad is not None and bool(torch.isfinite(grad).all())


def test_feature_gradients_too_large_for_malloc_to_keep() -> None:
    """Beyond 32 MiB they are new pages, zeroed by the system; with half the channels they are smaller."""
    count, channels = 9_000, 1_000
    inputs = make_inputs(count, channels, dtype=torch.float32)
    halves = [inputs | {"features": half} for half in inputs["features"].split(channels // 2, 1)]
    options = with_options(feature_size=(5, 6))

    def gradient(inputs: Inputs) -> torch.Tensor:
        features = inputs["features"].clone().requires_grad_()
        rendered = render_native(inputs | {"features": features}, options).features
        assert rendered is not None
        return torch.autograd.grad(rendered.square().sum(), features)[0]

    whole = gradient(inputs)
    assert whole.nbytes > 32 << 20 and 0 < whole.count_nonzero() < whole.numel()
    assert torch.equal(whole, torch.cat([gradient(half) for half in halves], 1))


def test_a_million_screen_filling_gaussians_are_a_memory_error() -> None:
    count = 1_000_000
    camera = CAMERA.resized(640, 480)
    inputs = {
        "means": torch.tensor([[0.0, 0.0, 2.0]]).expand(count, 3),
        "quaternions": torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
        "scales": torch.full((1, 1), 100.0).expand(count, 3),
        "opacities": torch.ones(1).expand(count),
        "colors": torch.ones(1, 3).expand(count, 3),
        "cam_from_world": torch.eye(4),
    }
    with pytest.raises(MemoryError, match="max_intersections"):
        render_native(inputs, camera=camera)


def test_a_fork_after_rendering_can_render() -> None:
    """Data loaders fork; a thread pool that outlived a call would be dead in the child."""
    script = (
        "import os, torch, gsplatloc_kernels as d\n"
        "s = d.RasterizerSettings(64, 48, 50., 50., 32., 24., threads=2)\n"
        "n = 4000\n"
        "def go():\n"
        "    m = torch.zeros(n, 3) + torch.tensor([0., 0., 2.])\n"
        "    q = torch.tensor([[1., 0, 0, 0]]).expand(n, 4)\n"
        "    d.rasterize(m, q, m * 0.01, m[:, 2] / 4, colors=m, cam_from_world=torch.eye(4), settings=s)\n"
        "go()\n"
        "pid = os.fork()\n"
        "go()\n"
        "if pid == 0: os._exit(0)\n"
        "raise SystemExit(os.waitpid(pid, 0)[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_threads_that_cannot_start_are_done_without() -> None:
    script = (
        "import resource, torch, gsplatloc_kernels as d\n"
        "m, eye = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)), torch.eye(4)\n"
        "q = torch.tensor([[1., 0, 0, 0]]).expand(4000, 4)\n"
        "def go(threads):\n"
        "    s = d.RasterizerSettings(64, 48, 50., 50., 32., 24., threads=threads)\n"
        "    return d.rasterize(m + 1, q, m / 9, m[:, 2], colors=m, cam_from_world=eye, settings=s).rgb\n"
        "expected = go(1)\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        # Room for a few stacks of 8 MiB, not for 1023.
        "limit = pages * resource.getpagesize() + (256 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "raise SystemExit(not torch.equal(go(1024), expected))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
