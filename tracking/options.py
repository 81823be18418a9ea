"""The options of tracking."""

from dataclasses import dataclass, field
from typing import Literal

from gsplatloc.tracking.frames import RgbdFrameOptions
from gsplatloc.tracking.gsplatloc import GsplatLocAligner, GsplatLocOptions
from gsplatloc.tracking.lm import KeyframeAligner, KeyframeOptions
from gsplatloc.tracking.protocol import Aligner
from gsplatloc.tracking.surface import SurfaceMap, SurfaceOptions

Method = Literal["lm", "gsplatloc"]


@dataclass(frozen=True)
class TrackingOptions:
    """How a sequence is tracked and mapped."""

    method: Method = "lm"  # lm: second-order, with keyframes; gsplatloc: descent through the rendered map
    frames: RgbdFrameOptions = field(default_factory=RgbdFrameOptions)
    lm: KeyframeOptions = field(default_factory=KeyframeOptions)
    gsplatloc: GsplatLocOptions = field(default_factory=GsplatLocOptions)
    surface: SurfaceOptions = field(default_factory=SurfaceOptions)


def make_aligner(options: TrackingOptions, surface: SurfaceMap) -> Aligner:
    """The aligner called `options.method`; it may use the map that is being made."""
    if options.method == "gsplatloc":
        return GsplatLocAligner(surface, options.gsplatloc)
    return KeyframeAligner(options.lm)
