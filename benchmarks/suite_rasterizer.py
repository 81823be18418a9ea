"""The suite's measurements of the rasterizer."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import gsplatloc_kernels as native
from benchmarks.machine import Roofline
from benchmarks.raster import Case, Setting, settings_for
from benchmarks.raster_scenes import BenchmarkScene, load_scene
from benchmarks.yardstick import Lap, Probe

_CPU = torch.device("cpu")

CASES = (
    Case("rgb", ("rgb",)),
    Case("rgb + depth", ("rgb", "depth")),
    Case("rgb + depth + 64 features at 1/8", ("rgb", "depth", "features"), 8),
    Case("rgb + depth + 64 features, full size", ("rgb", "depth", "features"), 1),
    Case("rgb, pose only", ("rgb",), None, ("cam_from_world",)),
)
LARGE = (CASES[3],)  # whose outputs are
SMALL = tuple(case for case in CASES if case not in LARGE)


def setting_of(name: str, width: int, height: int, threads: int) -> Setting:
    """A scene and a camera in it: cube-N, or the folder of a map."""
    scene, camera = load_scene(name, width, height)
    unused = Roofline(math.nan, math.nan)  # each measurement has its own product beside it
    return Setting(scene, camera, _CPU, threads, repeats=0, roofline=unused)


def with_channels(setting: Setting, channels: int) -> Setting:
    """The same scene with descriptors of another length."""
    features = torch.randn(setting.scene.count, channels, generator=torch.Generator().manual_seed(0))
    inputs = setting.scene.inputs | {"features": features}
    return replace(setting, scene=BenchmarkScene(setting.scene.name, inputs))


def probes(setting: Setting, cases: Sequence[Case] = CASES) -> list[Probe]:
    """One probe per case, with the laps "forward" and "backward"."""
    camera = setting.camera
    place = f"{setting.scene.name}, {camera.width}x{camera.height}"
    return [raster_probe(f"{place}, {case.name}", case, setting) for case in cases]


def raster_probe(name: str, case: Case, setting: Setting) -> Probe:
    settings = settings_for(case, setting)
    inputs = {
        key: tensor
        for key, tensor in setting.scene.copies(_CPU, case.gradients)[0].items()
        if key != "features" or case.feature_scale
    }
    leaves = [tensor for tensor in inputs.values() if tensor.requires_grad]

    def run(lap: Lap) -> None:
        with lap("forward"):
            result = native.rasterize(**inputs, settings=settings)
        outputs: list[Tensor] = [getattr(result, output) for output in case.outputs]
        gradients = [torch.full_like(output, 1e-3) for output in outputs]
        with lap("backward"):
            torch.autograd.grad(outputs, leaves, gradients, allow_unused=True)

    return Probe(name, run)
