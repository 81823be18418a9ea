"""Mapping with its tensors on a (simulated) GPU: nothing mixes devices, and the hot loop does not wait."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.mapping.exposure import AdaptiveExposure, AffineExposure
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import FrameLoader, Request
from gsplatloc.mapping.options import (
    DescriptorOptions,
    FrameCacheOptions,
    InitializationOptions,
    LossOptions,
    MappingOptions,
    OutputOptions,
    RenderingOptions,
    ScheduleOptions,
)
from gsplatloc.mapping.train import train
from gsplatloc.mapping.trainer import Trainer, TrainingSet
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.scene.map_config import MapConfig
from tests.device.simulated import DEVICE, GpuTensor, SimulatedGpu
from tests.mapping.conftest import true_gaussians

CONFIG = MapConfig("/somewhere")


def options(iterations: int, **groups: Any) -> MappingOptions:
    """Densification, higher harmonics and figures within a few iterations, on the GPU."""
    base = MappingOptions(
        schedule=ScheduleOptions(iterations=iterations, sh_degree=1, sh_interval=3, holdout=3),
        initialization=InitializationOptions(init_max_points=60),
        rendering=RenderingOptions(device="cuda"),
        losses=LossOptions(lambda_depth=0.1),
        densification=DensificationOptions(
            densify_from_iter=2, densification_interval=4, opacity_reset_interval=7,
            densify_grad_threshold=1e-4, max_gaussians=80,
        ),
        output=OutputOptions(test_iterations=(), save_iterations=(), quiet=True),
    )  # fmt: skip
    return replace(base, **groups)


@pytest.mark.parametrize("densification", ["adc", "mcmc", "none"])
@pytest.mark.parametrize("descriptors", ["distilled", "aggregated"])
def test_a_map_is_made(
    gpu: SimulatedGpu, tmp_path: Path, tiny_scene: Scene, extractor: Any, densification: Any, descriptors: Any
) -> None:
    settings = options(
        12,
        descriptors=DescriptorOptions(descriptors=descriptors, descriptor_steps=2),
        densification=replace(options(1).densification, densification=densification),
        rendering=RenderingOptions(device="cuda", exposure=True),
        output=OutputOptions((5,), save_iterations=(5,), checkpoint_iterations=(6,), quiet=True),
    )
    report = train(tiny_scene, tmp_path, settings, CONFIG, extractor)
    assert report.completed and report.quality is not None and report.quality.psnr > 10


def test_a_run_is_resumed_from_a_checkpoint(
    gpu: SimulatedGpu, tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    first = options(
        8, output=OutputOptions(checkpoint_iterations=(4,), quiet=True),
        rendering=RenderingOptions(device="cuda", exposure=True),
    )  # fmt: skip
    train(tiny_scene, tmp_path, first, CONFIG, extractor)
    start = str(tmp_path / "checkpoint_4.safetensors")
    again = replace(first, output=OutputOptions(start_checkpoint=start, quiet=True))
    assert train(tiny_scene, tmp_path / "again", again, CONFIG, extractor).completed


def make_trainer(
    scene: Scene, output: Path, settings: MappingOptions, extractor: Any
) -> tuple[Trainer, FrameLoader]:
    gaussians = replace(true_gaussians(), features=torch.zeros(40, 4)).to("cuda")
    loader = FrameLoader(settings.frames, FeatureCache(output / "cache", extractor), DEVICE)
    return Trainer(TrainingSet(scene.train, [], 10.0), gaussians, loader, settings, output), loader


def test_an_exposure_network_goes_on_from_a_state_on_the_cpu(gpu: SimulatedGpu) -> None:
    def step(model: AdaptiveExposure) -> None:
        rgb = torch.rand(3, 4, 4, device="cuda")
        model.apply(1, rgb, rgb).sum().backward()
        model.step()

    model, other = AdaptiveExposure(DEVICE), AdaptiveExposure(DEVICE)
    step(model)
    other.load_state({name: tensor.cpu() for name, tensor in model.state().items()})
    step(other)
    assert other.state()["network.mean_histogram"].device == DEVICE


@pytest.mark.parametrize("data_device", ["auto", "cpu"])
@pytest.mark.parametrize("densification", ["adc", "mcmc"])
def test_an_iteration_waits_once_for_the_rasterizer_and_for_nothing_else(
    gpu: SimulatedGpu, tmp_path: Path, tiny_scene: Scene, extractor: Any, densification: Any, data_device: str
) -> None:
    settings = options(
        100,
        densification=DensificationOptions(densification=densification),
        frames=FrameCacheOptions(data_device=data_device),
        rendering=RenderingOptions(device="cuda", exposure=True),
    )
    trainer, loader = make_trainer(tiny_scene, tmp_path, settings, extractor)
    with loader:
        for iteration in range(1, 8):
            gpu.waits.clear()
            trainer._step(iteration)
            waits = [wait for wait in gpu.waits if iteration > 1]  # the first sets things up
            assert [wait.operation for wait in waits] in ([], ["rasterize"]), waits


def test_frames_live_on_the_gpu_as_bytes_within_a_budget(gpu: SimulatedGpu, tiny_views: list[View]) -> None:
    size = tiny_views[0].camera.width * tiny_views[0].camera.height * 3
    with FrameLoader(FrameCacheOptions(image_cache_mb=1), None, DEVICE) as loader:
        loader._capacity = 2 * size + 1
        for view in tiny_views:
            frame = loader.load(Request(view))
            assert frame.rgb.device == DEVICE and frame.rgb.dtype == torch.float32
        kept = [tensor for _, tensor in loader._kept.values()]
    assert len(kept) == 2 and all(isinstance(t, GpuTensor) and t.dtype == torch.uint8 for t in kept)


def test_gradients_reach_a_pose_that_stayed_on_the_cpu(gpu: SimulatedGpu, tiny_views: list[View]) -> None:
    pose = tiny_views[0].cam_from_world.clone().requires_grad_()
    result = render(true_gaussians().to("cuda"), tiny_views[0].camera, pose, RenderOptions())
    result.rgb.sum().backward()
    assert result.rgb.device == DEVICE and pose.grad is not None and pose.grad.device.type == "cpu"


def test_a_map_and_a_pose_of_two_devices_are_brought_together_by_render(
    gpu: SimulatedGpu, tiny_views: list[View]
) -> None:
    for backend in ("native", "reference"):
        options = RenderOptions(backend=backend, sh_in_python=True, covariance_in_python=True)
        gaussians, view = true_gaussians().to("cuda"), tiny_views[0]
        with torch.no_grad():
            result = render(gaussians, view.camera, view.cam_from_world, options)
        assert result.rgb.device == result.radii.device == DEVICE


def test_exposure_goes_on_from_a_state_on_the_cpu(gpu: SimulatedGpu, tmp_path: Path) -> None:
    def step(model: AffineExposure) -> None:
        model.apply(1, torch.rand(3, 4, 4, device="cuda")).sum().backward()
        model.step()

    model, other = AffineExposure(3, DEVICE), AffineExposure(3, DEVICE)
    step(model)
    other.load_state({name: tensor.cpu() for name, tensor in model.state().items()})
    step(other)
    assert other.state()["exp_avg"].device == DEVICE


def test_checkpoints_hold_no_tensor_of_the_gpu(
    gpu: SimulatedGpu, tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    settings = options(3, output=OutputOptions(checkpoint_iterations=(2,), quiet=True))
    train(tiny_scene, tmp_path, settings, CONFIG, extractor)
    tensors = load_checkpoint(tmp_path / "checkpoint_2.safetensors").tensors
    assert not any(isinstance(tensor, GpuTensor) for tensor in tensors.values())
