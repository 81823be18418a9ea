"""The suite's measurements of training: the loss, Adam, and whole iterations with where their time goes."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.raster_scenes import cube
from benchmarks.yardstick import Lap, Probe
from gsplatloc.arguments.presets import mapping_preset
from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.features.xfeat import CELL, XFeatExtractor
from gsplatloc.mapping import losses
from gsplatloc.mapping.frames import FrameLoader, Request, TrainingFrame
from gsplatloc.mapping.optimizer import MapOptimizer, OptimizerOptions
from gsplatloc.mapping.options import MappingOptions
from gsplatloc.mapping.train import Mapper
from gsplatloc.mapping.trainer import Trainer, TrainingSet
from gsplatloc.scene.cameras import Camera, Scene, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc_kernels.backends import CpuBackend

_SH_BASES = 4  # of degree 1, as in the preset for a CPU
_STILL = OptimizerOptions(
    position_lr_init=0, color_lr=0, opacity_lr=0, scaling_lr=0, rotation_lr=0, feature_lr=0
)  # the same work, and nothing moves
_VIEWS = 24  # of that scene: all of them would have to be decoded first
_WARM_UP = 120  # iterations, after which opacities and sizes are as in most of a run

ITERATION = "iteration"  # the lap that holds all others
# Where an iteration's time goes, by lap; what is left is torch's and Python's.
PARTS: dict[str, tuple[object, str]] = {
    "waiting for the frame": (FrameLoader, "load"),
    "rasterizer, forward": (CpuBackend, "forward"),
    "photometric loss and gradient": (CpuBackend, "photometric_loss"),
    "feature loss": (losses, "feature_loss"),
    "rasterizer, backward": (CpuBackend, "backward"),
    "Adam": (CpuBackend, "adam_step"),
}


def cube_map(count: int) -> Gaussians:
    """Scene "cube" as a map that could be trained."""
    scene = cube(count)
    sh = torch.zeros(count, _SH_BASES, 3)
    sh[:, 0] = (scene["colors"] - 0.5) * 3.5
    logits = torch.logit(scene["opacities"].clamp(1e-3, 1 - 1e-3))
    return Gaussians(
        scene["means"], scene["quaternions"], scene["scales"].log(), logits, sh, scene["features"]
    )


def loss_probe(width: int, height: int) -> Probe:
    """The photometric loss of two random images, with its gradient."""
    generator = torch.Generator().manual_seed(0)
    rendered = torch.rand(3, height, width, generator=generator).requires_grad_()
    target = torch.rand(3, height, width, generator=generator)

    def run(lap: Lap) -> None:
        with lap("value and gradient"):
            torch.autograd.grad(losses.photometric_loss(rendered, target, 0.2), rendered)

    return Probe(f"photometric loss, {width}x{height}", run)


def adam_probe(count: int) -> Probe:
    """A step of every parameter of a map."""
    optimizer = MapOptimizer(cube_map(count), OptimizerOptions(), 1.0)

    def run(lap: Lap) -> None:
        set_gradients(optimizer.gaussians())
        with lap("step"):
            optimizer.step(1)

    def set_gradients(gaussians: Gaussians) -> None:
        torch.cat([tensor.flatten() for tensor in gaussians.parameters().values()]).sum().backward()

    return Probe(f"Adam, {count} Gaussians", run)


class _TimedTrainer(Trainer):
    """A trainer whose iterations can be made one by one."""

    def iterate(self) -> None:
        self.iteration += 1
        self._step(self.iteration)


class _MemoryLoader(FrameLoader):
    """Frames that are there already."""

    def __init__(self, frames: dict[str, TrainingFrame]) -> None:
        self._frames = frames

    def prefetch(self, requests: object) -> None:
        """Nothing is to be decoded."""

    def load(self, request: Request) -> TrainingFrame:
        return self._frames[request.view.name]

    def close(self) -> None:
        """Nothing was started."""


def iteration_probe(name: str, trainer: "_TimedTrainer") -> Probe:
    """Iterations of a trainer, and the shares of what the native package does in them."""

    def run(lap: Lap) -> None:
        with ExitStack() as stack:
            for label, (owner, method) in PARTS.items():
                stack.enter_context(patch.object(owner, method, timed(owner, method, lap, label)))
            with lap(ITERATION):
                trainer.iterate()

    return Probe(name, run)


def timed(owner: object, method: str, lap: Lap, label: str) -> Callable[..., Any]:
    """A method that runs within a lap."""
    original = getattr(owner, method)

    def wrapper(*arguments: Any, **named: Any) -> Any:
        with lap(label):
            return original(*arguments, **named)

    return wrapper


def static_trainer(count: int, camera: Camera, folder: Path) -> _TimedTrainer:
    """A trainer of "cube" that changes nothing: every iteration does the same work."""
    gaussians = cube_map(count)
    pose = torch.eye(4, dtype=torch.float64)
    size = (max(camera.height // CELL, 1), max(camera.width // CELL, 1))
    with torch.no_grad():
        shown = render(gaussians, camera, pose.float(), RenderOptions(feature_size=size))
    view = View("view", camera, pose, folder / "none", lambda: np.zeros(0, np.uint8))
    frame = TrainingFrame(view, camera, shown.rgb.clamp(0, 1), shown.features)
    options = replace(_endless(MappingOptions()), optimizer=_STILL)
    return _TimedTrainer(
        TrainingSet([view], [], 1.0), gaussians, _MemoryLoader({"view": frame}), options, folder
    )


@dataclass(frozen=True)
class Kind:
    """A kind of iteration."""

    label: str
    pixels: int = 320 * 240  # at most, of an image
    gaussians: int = 60_000  # at most
    features: bool = False  # descriptors are trained together with colours, at 1/8 of the size


KINDS = (
    Kind("features at 1/8", features=True),
    Kind("colour only"),
    Kind("colour only, full size", pixels=350_000, gaussians=100_000),
)


def training_options(kind: Kind) -> MappingOptions:
    """The preset for a CPU, whose iterations are all of one kind."""
    options = _endless(mapping_preset("cpu"))
    return replace(
        options,
        schedule=replace(options.schedule, train_pixels=kind.pixels, pyramid=(), holdout=0),
        stopping=replace(options.stopping, early_stop=0),
        initialization=replace(options.initialization, init_max_points=kind.gaussians),
        descriptors=replace(options.descriptors, descriptors="distilled" if kind.features else "none"),
        output=replace(options.output, quiet=True),
    )


class SceneTraining:
    """Iterations over some views of a scene."""

    def __init__(self, scene: Scene, folder: Path, kind: Kind) -> None:
        """Makes the first iterations, which are not as the others; files go to `folder`."""
        options = training_options(kind)
        device = torch.device("cpu")
        stride = max(len(scene.train) // _VIEWS, 1)
        scene = replace(scene, train=scene.train[::stride][:_VIEWS])
        mapper = Mapper(scene, folder, options, XFeatExtractor(device, options.descriptors.top_k), device)
        if kind.features:
            mapper.cache.prepare(scene.train, quiet=True)
        self._loader = FrameLoader(options.frames, mapper.cache if kind.features else None, device)
        gaussians = mapper.initial_gaussians()
        self.trainer = _TimedTrainer(mapper.data, gaussians, self._loader, options, folder)
        for _ in range(_WARM_UP):
            self.trainer.iterate()
        camera = Request(scene.train[0], options.schedule.full_scale(scene.train[0].camera)).camera
        count = len(gaussians)
        self.name = f"training, {scene.name}, {camera.width}x{camera.height}, {count} Gaussians, {kind.label}"

    def __enter__(self) -> "SceneTraining":
        return self

    def __exit__(self, *_: object) -> None:
        self._loader.close()

    def probe(self) -> Probe:
        return iteration_probe(self.name, self.trainer)


def _endless(options: MappingOptions) -> MappingOptions:
    """A run whose set of Gaussians and whose resolution stay as they are."""
    return replace(
        options,
        schedule=replace(options.schedule, iterations=1 << 30, sh_degree=1, sh_interval=1),
        densification=replace(options.densification, densification="none"),
    )
