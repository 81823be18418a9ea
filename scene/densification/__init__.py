"""Which Gaussians to add and to drop while a map is optimised, as interchangeable objects.

A `Densification` is told of every iteration (`observe`) and returns an `Edit` when one is due. The owner of
the optimiser's moments applies an edit with `parents` and `fresh`, and moves moments nowhere else.
"""

from gsplatloc.scene.densification.adaptive import AdaptiveDensityControl
from gsplatloc.scene.densification.base import Densification, Edit, Observation
from gsplatloc.scene.densification.mcmc import MarkovChainMonteCarlo
from gsplatloc.scene.densification_options import DensificationOptions

__all__ = [
    "AdaptiveDensityControl",
    "Densification",
    "DensificationOptions",
    "Edit",
    "MarkovChainMonteCarlo",
    "Observation",
    "make_densification",
]


def make_densification(options: DensificationOptions, extent: float, count: int) -> Densification:
    """The densification that the options name, for `count` Gaussians in a scene of `extent` metres."""
    if options.densification == "adc":
        return AdaptiveDensityControl(options, extent, count)
    if options.densification == "mcmc":
        return MarkovChainMonteCarlo(options)
    return Densification()
