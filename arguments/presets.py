"""Groups of settings that go together. A flag on the command line wins over the preset."""

from dataclasses import replace
from typing import Literal

from gsplatloc.mapping.options import MappingOptions

Preset = Literal["paper", "cpu", "gpu"]


def mapping_preset(preset: Preset) -> MappingOptions:
    """The options that a preset stands for."""
    return {"paper": MappingOptions, "cpu": _cpu, "gpu": _gpu}[preset]()


def _cpu() -> MappingOptions:
    """Minutes on two cores: fewer, better placed Gaussians, and descriptors made on the finished map.

    Coarse images first, because most of what they teach costs a sixteenth of the pixels; colours of degree 1,
    because higher harmonics triple the parameters and indoor surfaces are mostly matt; opacities are not
    reset, because so short a run would not recover from it. A run ends early once held-out views gain less
    than 0.1 dB in 300 iterations. What was compared: docs/performance.md, "The CPU preset".
    """
    options, iterations = MappingOptions(), 3_600
    return replace(
        options,
        schedule=replace(
            options.schedule,
            iterations=iterations,
            sh_degree=1,
            train_pixels=350_000,
            pyramid=(0.4, 0.75),
            holdout=16,
        ),
        stopping=replace(options.stopping, early_stop=2, early_stop_interval=150, early_stop_windup=200),
        losses=replace(options.losses, lambda_depth=0.1),
        optimizer=replace(options.optimizer, position_lr_max_steps=iterations),
        densification=replace(
            options.densification,
            densify_from_iter=350,
            densify_until_iter=2_400,
            opacity_reset_interval=100_000,
            max_gaussians=150_000,
        ),
        descriptors=replace(options.descriptors, descriptors="aggregated", descriptor_steps=100),
        output=replace(options.output, test_iterations=(1_800, iterations), save_iterations=(iterations,)),
    )


def _gpu() -> MappingOptions:
    """About a minute on a data-centre GPU: the 7,000 iterations of GSplatLoc's README, at full resolution.

    Descriptors are made on the finished map, as for the CPU: nearer to the held-out views' than those of the
    paper's joint training, which `--descriptors distilled` brings back. Depth is used where it was measured.
    Twice the CPU's Gaussians: sharper, and with Adam's moments half a gigabyte.
    """
    options, iterations = MappingOptions(), 7_000
    return replace(
        options,
        schedule=replace(options.schedule, iterations=iterations, holdout=16),
        losses=replace(options.losses, lambda_depth=0.1),
        optimizer=replace(options.optimizer, position_lr_max_steps=iterations),
        densification=replace(
            options.densification,
            densify_until_iter=4_500,
            opacity_reset_interval=100_000,
            max_gaussians=300_000,
        ),
        descriptors=replace(options.descriptors, descriptors="aggregated", descriptor_steps=300),
        rendering=replace(options.rendering, device="cuda"),
        output=replace(options.output, test_iterations=(3_000, iterations), save_iterations=(iterations,)),
    )
