"""The methods of a table: how a scene is mapped, and how a query is localized, as published and by default.

`paper` is what the paper of a table describes, with what we have: see docs/how-to/reproduce.md for what
differs. `ours` is what the commands do by default. `sparse` has no splat: landmarks, retrieval, RANSAC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gsplatloc.localization.initial.members import GaussianMatchingOptions
from gsplatloc.localization.options import INITIAL, LocalizerOptions
from gsplatloc.localization.refine.members import FineOptions, GscprOptions, WarpOptions

MethodName = Literal["ours", "paper", "sparse"]
METHODS: tuple[MethodName, ...] = ("ours", "paper", "sparse")
Labels = Mapping[str, str]  # stage (or "final") -> its name in the table

_INDOOR_STEPS, _OUTDOOR_STEPS = 250, 350  # Adam steps of the paper's warp
_WARP_RATE = 1e-3  # metres and radians
_FINE_ROUNDS = 5
_PAPER_KEYPOINTS = 1000


@dataclass(frozen=True)
class Method:
    """How queries are localized, and which of the stages are rows of the table."""

    localizer: LocalizerOptions
    labels: Labels


def localization_method(name: MethodName, outdoors: bool) -> Method:
    """Images without any pose: landmarks and `lm`; a sparse pipeline; GSplatLoc's coarse, base and fine."""
    if name == "ours":
        return Method(LocalizerOptions(), {INITIAL: "ours, initial", "final": "ours"})
    if name == "sparse":
        return Method(LocalizerOptions("views", (), fallback=False), {"final": "sparse pipeline"})
    steps = _OUTDOOR_STEPS if outdoors else _INDOOR_STEPS
    settings = (
        GaussianMatchingOptions(keypoints=_PAPER_KEYPOINTS),
        WarpOptions(lr=_WARP_RATE, iterations=steps),
        FineOptions(rounds=_FINE_ROUNDS, match="map"),
    )
    options = LocalizerOptions(
        "gaussians", ("warp", "fine"), settings, top_k=_PAPER_KEYPOINTS, fallback=False
    )
    return Method(options, {INITIAL: "paper, coarse", "warp": "paper, base", "fine": "paper, fine"})


def refinement_method(name: MethodName, estimator: str) -> Method:
    """Images with the poses of another estimator: GS-CPR with one round, or two rounds and `lm`."""
    given = {INITIAL: f"{estimator}, as given"} if name == "ours" else {}
    if name == "ours":
        options = LocalizerOptions("given", ("gscpr", "lm"))
    else:
        options = LocalizerOptions("given", ("gscpr",), (GscprOptions(rounds=1),))
    return Method(options, {**given, "final": f"{estimator} + {name}"})
