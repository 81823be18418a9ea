"""The CUDA rasterizer on a real GPU, at real sizes, against the CPU backend.

Skipped without a GPU. `GSPLAT_DRY_RUN=1` runs the same code on the CPU with a handful of Gaussians: a check
of these tests, not of the kernels.
"""

import ctypes
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks.performance.rasterizer import cube
from gsplatloc.gaussian_renderer import native as backend
from gsplatloc.mapping import losses
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import FrameLoader
from gsplatloc.mapping.trainer import Trainer, TrainingSet
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.densification import DensificationOptions
from tests.cuda.support import build_library, load_library
from tests.mapping.conftest import extractor, tiny_scene, tiny_views, true_gaussians  # noqa: F401

DRY = os.environ.get("GSPLAT_DRY_RUN") == "1"
DEVICE = torch.device("cpu") if DRY else torch.device("cuda", 0)
FORWARD, GRADIENT, TF32 = 1e-4, 1e-3, 2e-3  # relative, of whole images and of whole gradients
needs_gpu = pytest.mark.skipif(DRY, reason="a dry run has no GPU")

if not DRY:
    reason = "torch sees no GPU" if not torch.cuda.is_available() else backend.cuda_problem()
    if reason:
        pytest.skip(f"needs a GPU: {reason}", allow_module_level=True)

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """What is rendered, and how."""

    gaussians: int
    width: int
    height: int
    channels: int = 64
    feature_scale: int = 8
    moves_geometry: bool = False
    antialiased: bool = False
    degree: int | None = None  # of spherical harmonics; None = colours

    def inputs(self) -> Inputs:
        inputs = cube(min(self.gaussians, 300) if DRY else self.gaussians)
        generator = torch.Generator().manual_seed(1)
        count = len(inputs["means"])
        inputs["features"] = torch.randn(count, self.channels, generator=generator)
        inputs["screen_offsets"] = torch.zeros(count, 2)
        pose = inputs["cam_from_world"]
        pose[:3, 3] = torch.tensor([0.05, -0.03, 0.1])
        if self.degree is not None:
            del inputs["colors"]
            inputs["sh"] = torch.randn(count, (self.degree + 1) ** 2, 3, generator=generator) * 0.3
        return inputs

    def settings(self, **changes: Any) -> native.RasterizerSettings:
        width, height = (64, 48) if DRY else (self.width, self.height)
        focal = 500.0 * width / 640
        chosen = native.RasterizerSettings(
            width, height, focal, 1.1 * focal, 0.48 * width, 0.53 * height,
            max(width // self.feature_scale, 1), max(height // self.feature_scale, 1),
            features_move_geometry=self.moves_geometry, antialiased=self.antialiased,
            sh_degree=self.degree or 0, background=(0.1, 0.2, 0.3), max_intersections=1 << 28,
        )  # fmt: skip
        return replace(chosen, **changes)


SMALL = Case(20_000, 640, 480)
CASES = {
    "100k at 640x480": Case(100_000, 640, 480),
    "100k at 1920x1080": Case(100_000, 1920, 1080),
    "1M at 640x480": Case(1_000_000, 640, 480),
    "1M at 1920x1080, features of full size": Case(1_000_000, 1920, 1080, feature_scale=1),
    "features that move geometry": Case(100_000, 640, 480, feature_scale=1, moves_geometry=True),
    "features at 1/8 that move geometry": Case(100_000, 640, 480, moves_geometry=True),
    "spherical harmonics": Case(100_000, 640, 480, degree=3),
    "antialiased": Case(100_000, 640, 480, antialiased=True),
    "ragged size, 1 channel": Case(5_000, 333, 77, channels=1, feature_scale=1),
    "ragged size, 3 channels": Case(5_000, 77, 333, channels=3, feature_scale=3),
    "100 channels": Case(20_000, 640, 480, channels=100, feature_scale=2),
    "one Gaussian": Case(1, 640, 480),
}


def run(
    case: Case, device: torch.device, seed: int = 0, **changes: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, and gradients of a sum in which every pixel has its own weight; both on the CPU."""
    leaves = {name: tensor.to(device).requires_grad_() for name, tensor in case.inputs().items()}
    result = native.rasterize(**leaves, settings=case.settings(**changes))
    outputs = {
        name: value
        for name, value in vars(result).items()
        if isinstance(value, torch.Tensor) and name != "radii"
    }
    generator = torch.Generator().manual_seed(seed)
    total = sum(
        (output * torch.randn(output.shape, generator=generator).to(device)).sum()
        for output in outputs.values()
    )
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    found = {name: grad for name, grad in zip(leaves, gradients) if grad is not None}
    images = outputs | {"radii": result.radii.float()}
    return {n: t.detach().cpu() for n, t in images.items()}, {n: t.cpu() for n, t in found.items()}


def error(found: Tensor, reference: Tensor) -> float:
    """Relative, in the Euclidean norm; NaN never passes."""
    difference = torch.linalg.vector_norm((found - reference).double())
    return (difference / torch.linalg.vector_norm(reference.double()).clamp(min=1e-12)).item()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """`on_gpu.cu`, compiled for the GPU at hand."""
    if not shutil.which("nvcc"):
        pytest.skip("needs nvcc on the PATH")
    path = tmp_path_factory.mktemp("on-gpu") / "on_gpu.so"
    major, minor = torch.cuda.get_device_capability(DEVICE)
    build_library(path, f"sm_{major}{minor}")
    return load_library(path)


@needs_gpu
@pytest.mark.parametrize("full", [True, False], ids=["float32", "tf32"])
def test_fragments_of_tensor_cores_multiply_like_matrices(library: ctypes.CDLL, full: bool) -> None:
    """First of all tests: were the layout of fragments another one, every other figure would be wrong."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(16, 8, generator=generator), torch.randn(8, 8, generator=generator)
    left, right, found = a.to(DEVICE), b.to(DEVICE), torch.zeros(16, 8, device=DEVICE)
    torch.cuda.synchronize()
    assert library.multiply(left.data_ptr(), right.data_ptr(), found.data_ptr(), full) == 0
    difference = (found.cpu().double() - a.double() @ b.double()).abs().max().item()
    assert difference < (4e-6 if full else 8 * 3 * 2**-11)


@needs_gpu
@pytest.mark.parametrize(
    "kernel,variant,wanted",
    [("moments", False, 3), ("moments", True, 3), ("features", True, 2), ("features", False, 2)],
)
def test_as_many_blocks_are_resident_as_shared_memory_allows(
    library: ctypes.CDLL, kernel: str, variant: bool, wanted: int
) -> None:
    shared = ctypes.c_int64()
    blocks = getattr(library, f"resident_{kernel}")(variant, ctypes.byref(shared))
    by_memory = library.multiprocessor_bytes() // (shared.value + 1024)
    assert blocks >= min(wanted, by_memory), f"{blocks} blocks of {shared.value} bytes"


@pytest.mark.parametrize("name", CASES)
def test_images_and_gradients_are_those_of_the_cpu(name: str) -> None:
    images, gradients = run(CASES[name], DEVICE)
    reference_images, reference_gradients = run(CASES[name], torch.device("cpu"))
    errors = {key: error(images[key], reference) for key, reference in reference_images.items()}
    assert {key: value for key, value in errors.items() if not value < FORWARD} == {}
    assert gradients.keys() == reference_gradients.keys()
    errors = {key: error(gradients[key], reference) for key, reference in reference_gradients.items()}
    assert {key: value for key, value in errors.items() if not value < GRADIENT} == {}


def test_tf32_features_stay_within_their_bound() -> None:
    case = Case(100_000, 640, 480, feature_scale=1, moves_geometry=True)
    images, gradients = run(case, DEVICE, feature_precision="tf32")
    reference_images, reference_gradients = run(case, torch.device("cpu"))
    assert error(images["features"], reference_images["features"]) < TF32
    assert error(images["rgb"], reference_images["rgb"]) < FORWARD
    assert error(gradients["features"], reference_gradients["features"]) < TF32


@pytest.mark.parametrize("name", ["100k at 640x480", "1M at 1920x1080, features of full size"])
def test_the_same_input_gives_the_same_bits(name: str) -> None:
    (first, d_first), (second, d_second) = (run(CASES[name], DEVICE) for _ in range(2))
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    assert [key for key in d_first if not torch.equal(d_first[key], d_second[key])] == []


def test_five_million_gaussians_in_full_hd() -> None:
    case = Case(5_000_000, 1920, 1080)
    images, gradients = run(case, DEVICE)
    assert all(bool(tensor.isfinite().all()) for tensor in (*images.values(), *gradients.values()))
    with torch.no_grad():
        reference = native.rasterize(**case.inputs(), settings=case.settings())
    assert (
        error(images["rgb"], reference.rgb) < FORWARD
        and error(images["features"], reference.features) < FORWARD
    )


def test_no_gaussians_give_the_background() -> None:
    inputs = {n: t[:0] if n != "cam_from_world" else t for n, t in SMALL.inputs().items()}
    moved = {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
    result = native.rasterize(**moved, settings=SMALL.settings())
    assert torch.allclose(result.rgb[:, 0, 0].cpu(), torch.tensor([0.1, 0.2, 0.3]))
    assert result.alpha.abs().max() == 0 and result.features.abs().max() == 0


def test_a_parameter_that_is_not_finite_is_refused() -> None:
    inputs = {name: tensor.to(DEVICE) for name, tensor in SMALL.inputs().items()}
    inputs["scales"][7, 1] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        native.rasterize(**inputs, settings=SMALL.settings())


def test_too_many_intersections_are_refused_before_memory_is_taken() -> None:
    inputs = {name: tensor.to(DEVICE) for name, tensor in SMALL.inputs().items()}
    with pytest.raises(MemoryError, match="max_intersections"):
        native.rasterize(**inputs, settings=SMALL.settings(max_intersections=10))


@needs_gpu
def test_a_pass_with_room_given_can_be_captured_and_replayed() -> None:
    """Forward and backward, for other Gaussians than those that were captured, and for too many of them."""
    settings = SMALL.settings(intersection_capacity=2_000_000)
    inputs = {name: tensor.to(DEVICE).requires_grad_() for name, tensor in SMALL.inputs().items()}

    def step() -> tuple[native.Rasterization, tuple[Tensor, ...]]:
        view = native.rasterize(**inputs, settings=settings)
        loss = view.rgb.square().sum() + view.depth.sum() + view.features.square().sum()
        return view, torch.autograd.grad(loss, list(inputs.values()))

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()  # loads the kernels, which a capture cannot
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        view, gradients = step()
    for shift, scale in ((0.0, 1.0), (0.2, 1.5), (0.0, 100.0)):
        with torch.no_grad():
            inputs["means"].add_(shift)
            inputs["scales"].mul_(scale)
        graph.replay()
        torch.cuda.synchronize()
        if scale == 100.0:
            with pytest.raises(MemoryError, match="intersection_capacity = 2000000"):
                view.check()
            assert view.alpha.abs().max() == 0
            continue
        view.check()
        expected, wanted = step()
        assert torch.equal(view.rgb, expected.rgb) and torch.equal(view.features, expected.features)
        assert all(torch.equal(found, each) for found, each in zip(gradients, wanted, strict=True))


@needs_gpu
def test_tensors_of_two_devices_are_refused() -> None:
    for stays in SMALL.inputs():
        inputs = {n: t if n == stays else t.to(DEVICE) for n, t in SMALL.inputs().items()}
        with pytest.raises(ValueError, match="device"):
            native.rasterize(**inputs, settings=SMALL.settings())


@needs_gpu
def test_double_precision_is_refused_on_a_gpu() -> None:
    inputs = {name: tensor.to(DEVICE).double() for name, tensor in SMALL.inputs().items()}
    with pytest.raises(TypeError, match="float32"):
        native.rasterize(**inputs, settings=SMALL.settings())


@needs_gpu
def test_work_is_put_on_the_callers_stream() -> None:
    """Inputs that a busy stream has yet to write are read when it has written them."""
    expected, _ = run(SMALL, DEVICE)
    inputs = {name: tensor.to(DEVICE) for name, tensor in SMALL.inputs().items()}
    late = {name: torch.zeros_like(tensor) for name, tensor in inputs.items()}
    late["quaternions"][:, 0] = 1
    late["cam_from_world"].copy_(torch.eye(4))
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # cycles: about a tenth of a second
        for name, tensor in inputs.items():
            late[name].copy_(tensor)
        result = native.rasterize(**late, settings=SMALL.settings())
        for tensor in late.values():
            tensor.zero_()  # what comes later on the stream must not be seen
    stream.synchronize()
    assert torch.equal(result.rgb.cpu(), expected["rgb"])


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_tensors_on_the_second_gpu_are_rendered_there() -> None:
    expected, d_expected = run(SMALL, DEVICE)
    found, d_found = run(SMALL, torch.device("cuda", 1))
    assert torch.cuda.current_device() == 0
    assert error(found["rgb"], expected["rgb"]) < FORWARD
    assert error(d_found["means"], d_expected["means"]) < GRADIENT


@needs_gpu
def test_out_of_memory_is_an_exception_and_leaves_the_gpu_usable() -> None:
    case = CASES["1M at 1920x1080, features of full size"]
    torch.cuda.empty_cache()
    inputs = {name: tensor.to(DEVICE) for name, tensor in case.inputs().items()}
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (64 << 20)) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            native.rasterize(**inputs, settings=case.settings())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    del inputs
    images, _ = run(SMALL, DEVICE)
    assert bool(images["rgb"].isfinite().all())


@needs_gpu
def test_memory_does_not_grow_over_iterations() -> None:
    def peak() -> tuple[int, int]:
        torch.cuda.reset_peak_memory_stats()
        run(SMALL, DEVICE)
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()

    for _ in range(3):
        peak()
    before = (peak(), torch.cuda.memory_reserved())
    for _ in range(100):
        run(SMALL, DEVICE)
    assert (peak(), torch.cuda.memory_reserved()) == before


def make_trainer(scene: Scene, output: Path, extractor: Any, densification: str) -> Trainer:  # noqa: F811
    from tests.device.test_mapping import options

    settings = options(100, densification=DensificationOptions(densification=densification))  # type: ignore[arg-type]
    gaussians = replace(true_gaussians(), features=torch.zeros(40, 4)).to(DEVICE)
    loader = FrameLoader(settings.frames, FeatureCache(output / "cache", extractor), DEVICE)
    return Trainer(TrainingSet(scene.train, [], 10.0), gaussians, loader, settings, output)


@needs_gpu
@pytest.mark.parametrize("densification", ["adc", "mcmc"])
def test_torch_waits_for_nothing_in_a_training_iteration(
    tmp_path: Path,
    tiny_scene: Scene,  # noqa: F811
    extractor: Any,  # noqa: F811
    densification: str,
) -> None:
    """The rasterizer's own wait, for the number of intersections, is not torch's and is not seen here."""
    trainer = make_trainer(tiny_scene, tmp_path, extractor, densification)
    iterations = iter(range(1, 10))
    for _ in range(len(tiny_scene.train) + 1):  # every image has been decoded and uploaded
        trainer._step(next(iterations))
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._step(next(iterations))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(trainer.gaussians.means.isfinite().all())


def test_the_photometric_loss_is_that_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    size = (3, 48, 64) if DRY else (3, 1080, 1920)
    rendered, target = torch.rand(*size, generator=generator), torch.rand(*size, generator=generator)
    values, gradients = [], []
    for device in (DEVICE, torch.device("cpu")):
        leaf = rendered.to(device).requires_grad_()
        loss = losses.photometric_loss(leaf, target.to(device), 0.2)
        (gradient,) = torch.autograd.grad(loss, leaf)
        values.append(loss.detach().cpu())
        gradients.append(gradient.cpu())
    assert error(values[0], values[1]) < FORWARD and error(gradients[0], gradients[1]) < GRADIENT
