"""Everything that tracking can be told."""

from dataclasses import dataclass, field
from typing import Literal

from gsplatloc.tracking.frames import FrameOptions
from gsplatloc.tracking.gsplatloc import GsplatLocAligner, GsplatLocOptions
from gsplatloc.tracking.lm import LmAligner, LmOptions
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.surface import SurfaceMap, SurfaceOptions

Method = Literal["lm", "gsplatloc"]


@dataclass(frozen=True)
class TrackingOptions:
    """How a sequence is tracked and mapped."""

    method: Method = "lm"  # lm: second-order, with keyframes; gsplatloc: descent through the rendered map
    frames: FrameOptions = field(default_factory=FrameOptions)
    lm: LmOptions = field(default_factory=LmOptions)
    gsplatloc: GsplatLocOptions = field(default_factory=GsplatLocOptions)
    surface: SurfaceOptions = field(default_factory=SurfaceOptions)


def make_aligner(options: TrackingOptions, surface: SurfaceMap) -> Aligner:
    """The aligner called `options.method`, which may look at the map that is being made."""
    if options.method == "gsplatloc":
        return GsplatLocAligner(surface, options.gsplatloc)
    return LmAligner(options.lm)
