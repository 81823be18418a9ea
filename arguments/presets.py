"""Presets: groups of settings. A flag on the command line overrides the preset."""

from dataclasses import replace
from typing import Literal

from gsplatloc.mapping.options import MappingOptions

Preset = Literal["paper", "cpu", "gpu"]


def mapping_preset(preset: Preset) -> MappingOptions:
    """The options of a preset."""
    return {"paper": MappingOptions, "cpu": _cpu, "gpu": _gpu}[preset]()


def _cpu() -> MappingOptions:
    """Minutes on two cores: at most 150,000 Gaussians, and descriptors aggregated on the finished map.

    Training begins with images of a quarter of the size, which have a sixteenth of the pixels; colours are of
    degree 1, because higher harmonics triple the parameters and indoor surfaces are mostly matt; opacities
    are not reset, because so short a run would not recover from it; sizes learn twice as fast. A run ends
    early once validation views gain less than 0.1 dB in 300 iterations. The comparisons: docs/findings.md,
    "The CPU preset".
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
        stopping=replace(options.stopping, early_stop=2, early_stop_interval=150, early_stop_cooldown=200),
        losses=replace(options.losses, lambda_depth=0.1),
        optimizer=replace(options.optimizer, position_lr_max_steps=iterations, scaling_lr=0.01),
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

    Descriptors are aggregated on the finished map, as in the preset cpu: they are closer to those of held-out
    views than the paper's joint training (`--descriptors distilled`). Depth is used if it was measured. Twice
    as many Gaussians as cpu: a higher PSNR, and half a gigabyte with Adam's moments.
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
