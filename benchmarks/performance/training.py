"""Probes of training: the loss, Adam, and whole iterations with the time of their parts."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.harness.measuring import Lap, Probe, timed
from benchmarks.performance.rasterizer import cube
from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.features.xfeat import CELL, XFeatExtractor
from gsplatloc.mapping import losses
from gsplatloc.mapping.frames import FrameLoader, Request, TrainingFrame
from gsplatloc.mapping.optimizer import MapOptimizer
from gsplatloc.mapping.options import MappingOptions, OptimizerOptions
from gsplatloc.mapping.train import Mapper
from gsplatloc.mapping.trainer import Trainer, TrainingSet
from gsplatloc.scene.cameras import Camera, Scene, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc_kernels.backends import CpuBackend

_SH_BASES = 4  # of degree 1, as in the preset for a CPU
# Iterations whose set of Gaussians and whose resolution stay as they are ...
_ENDLESS = "--iterations 1000000000 --sh_degree 1 --sh_interval 1 --densification none --quiet"
# ... and that change nothing, so that each of them does the same work.
_STATIC = "--position_lr_init 0 --color_lr 0 --opacity_lr 0 --scaling_lr 0 --rotation_lr 0 --feature_lr 0"
_VIEWS = 24  # of a real scene: all of them would have to be decoded first
_WARM_UP = 120  # iterations, after which opacities and sizes are as in most of a run

ITERATION = "iteration"  # the lap that holds all others
# The parts of an iteration, by lap; what is left is torch's and Python's.
PARTS: dict[str, tuple[object, str]] = {
    "waiting for the frame": (FrameLoader, "load"),
    "rasterizer, forward": (CpuBackend, "forward"),
    "photometric loss and gradient": (CpuBackend, "photometric_loss"),
    "feature loss": (losses, "feature_loss"),
    "rasterizer, backward": (CpuBackend, "backward"),
    "Adam": (CpuBackend, "adam_step"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of iteration."""

    label: str
    pixels: int = 320 * 240  # at most, of an image
    gaussians: int = 60_000  # at most
    descriptors: str = "none"  # distilled: trained together with colours, at 1/8 of the size


KINDS = (
    Kind("features at 1/8", descriptors="distilled"),
    Kind("colour only"),
    Kind("colour only, full size", pixels=350_000, gaussians=100_000),
)


def mapping_options(flags: str) -> MappingOptions:
    """What train.py would be told by its flags."""
    return parse_train_arguments(["-s", "scene", "-m", "map", *flags.split()]).mapping()


def options_of(kind: Kind) -> MappingOptions:
    """The preset for a CPU, with iterations of one kind only."""
    size = f"--train_pixels {kind.pixels} --init_max_points {kind.gaussians} --descriptors {kind.descriptors}"
    options = mapping_options(f"--preset cpu {_ENDLESS} {size} --holdout 0 --early_stop 0")
    return replace(options, schedule=replace(options.schedule, pyramid=()))


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
        parameters = optimizer.gaussians().parameters().values()
        torch.cat([tensor.flatten() for tensor in parameters]).sum().backward()
        with lap("step"):
            optimizer.step(1)

    return Probe(f"Adam, {count} Gaussians", run)


class SteppedTrainer(Trainer):
    """A trainer whose iterations are run one by one."""

    def iterate(self) -> None:
        self.iteration += 1
        self._step(self.iteration)

    def probe(self, name: str) -> Probe:
        """An iteration, with the laps of its parts."""

        def run(lap: Lap) -> None:
            with ExitStack() as stack:
                for label, (owner, method) in PARTS.items():
                    stack.enter_context(patch.object(owner, method, timed(owner, method, lap, label)))
                with lap(ITERATION):
                    self.iterate()

        return Probe(name, run)


class _MemoryLoader(FrameLoader):
    """Frames that are there already."""

    def __init__(self, frames: dict[str, TrainingFrame]) -> None:
        self._frames = frames

    def prefetch(self, requests: object) -> None:
        """Nothing has to be decoded."""

    def load(self, request: Request) -> TrainingFrame:
        return self._frames[request.view.name]

    def close(self) -> None:
        """Nothing was started."""


def static_trainer(count: int, camera: Camera, folder: Path) -> SteppedTrainer:
    """A trainer of "cube" that changes nothing."""
    gaussians, pose = cube_map(count), torch.eye(4, dtype=torch.float64)
    size = (max(camera.height // CELL, 1), max(camera.width // CELL, 1))
    with torch.no_grad():
        shown = render(gaussians, camera, pose.float(), RenderOptions(feature_size=size))
    view = View("view", camera, pose, folder / "none", lambda: np.zeros(0, np.uint8))
    loader = _MemoryLoader({"view": TrainingFrame(view, camera, shown.rgb.clamp(0, 1), shown.features)})
    options = mapping_options(f"{_ENDLESS} {_STATIC}")
    return SteppedTrainer(TrainingSet([view], [], 1.0), gaussians, loader, options, folder)


class SceneTraining:
    """Iterations over some views of a scene, in a `with` block."""

    def __init__(self, scene: Scene, folder: Path, kind: Kind) -> None:
        """Runs the first iterations, which are unlike the others; files go to `folder`."""
        options, device = options_of(kind), torch.device("cpu")
        scene = replace(scene, train=scene.train[:: max(len(scene.train) // _VIEWS, 1)][:_VIEWS])
        mapper = Mapper(scene, folder, options, XFeatExtractor(device, options.descriptors.top_k), device)
        cache = mapper.cache if kind.descriptors == "distilled" else None
        if cache is not None:
            cache.prepare(scene.train, quiet=True)
        self._loader = FrameLoader(options.frames, cache, device)
        gaussians = mapper.initial_gaussians()
        self._trainer = SteppedTrainer(mapper.data, gaussians, self._loader, options, folder)
        for _ in range(_WARM_UP):
            self._trainer.iterate()
        size = Request(scene.train[0], options.schedule.full_scale(scene.train[0].camera)).camera
        what = f"{size.width}x{size.height}, {len(gaussians)} Gaussians, {kind.label}"
        self.name = f"training, {scene.name}, {what}"

    def __enter__(self) -> Probe:
        return self._trainer.probe(self.name)

    def __exit__(self, *_: object) -> None:
        self._loader.close()
