"""Options of tracking, in a module that loads neither torch nor numpy: a command line is parsed with it."""

from dataclasses import dataclass, field
from typing import Literal

from gsplatloc.utils.errors import GSplatLocError

Method = Literal["lm", "gsplatloc"]
Split = Literal["all", "train", "test"]


@dataclass(frozen=True)
class RgbdFrameOptions:
    """Preparation of images. Pixels are those of the level."""

    side: int = 320  # pixels: images are halved while their longer side is at least twice this
    levels: int = 4  # of half the size each
    smooth_px: float = 1.0  # Gaussian sigma over inverse depth, not across depth edges; 0 = none
    max_depth: float = 8.0  # metres; larger depths of a Kinect are ignored

    def __post_init__(self) -> None:
        if min(self.side, self.levels) < 1:
            raise GSplatLocError(
                "expected --frames.side and --frames.levels of at least 1, found"
                f" {self.side} and {self.levels}"
            )


@dataclass(frozen=True)
class GsplatLocOptions:
    """Alignment of rendered depth. Values in brackets are the paper's."""

    iterations: int = 300  # at most, of each frame
    patience: int = 100  # iterations without a new best before a frame is done (100)
    lr: float = 1e-3  # Adam's learning rate, metres and radians (1e-3 metres, 5e-4 of a unit quaternion)
    keyframe_shift: float = 0.1  # metres plus radians after which a frame's depth enters the map


@dataclass(frozen=True)
class KeyframeOptions:
    """Alignment of frames with keyframes. Defaults were chosen on RedKitchen's training frames."""

    colour_weight: float = 1000.0  # effective sample size of all grey values; 0 = not used
    depth_weight: float = 100.0  # likewise of all depths: a Kinect's errors are correlated over whole regions
    keyframe_shift: float = 0.07  # radians of view: a frame whose surface moved further becomes a keyframe
    keyframe_overlap: float = 0.85  # share of the nearest keyframe in view: with less, a frame becomes one

    def __post_init__(self) -> None:
        if max(self.colour_weight, self.depth_weight) <= 0:
            raise GSplatLocError(
                "expected a colour_weight or a depth_weight above 0, found neither: nothing is compared"
            )


@dataclass(frozen=True)
class SurfaceOptions:
    """Fusion of depth."""

    cell_px: int = 2  # pixels of the finest level per new point, along each axis
    max_points: int = 1_000_000  # maximum number
    scale: float = 0.7  # of a Gaussian, in distances to its neighbours; less leaves gaps, 1 blurs

    def __post_init__(self) -> None:
        if self.cell_px < 1:
            raise GSplatLocError(f"expected --surface.cell_px of at least 1, found {self.cell_px}")
        if self.scale <= 0:
            raise GSplatLocError(f"expected a --surface.scale above 0, found {self.scale}")


@dataclass(frozen=True)
class TrackingOptions:
    """Tracking and mapping of a sequence."""

    method: Method = "lm"  # lm: second-order, with keyframes; gsplatloc: descent through the rendered map
    frames: RgbdFrameOptions = field(default_factory=RgbdFrameOptions)
    lm: KeyframeOptions = field(default_factory=KeyframeOptions)
    gsplatloc: GsplatLocOptions = field(default_factory=GsplatLocOptions)
    surface: SurfaceOptions = field(default_factory=SurfaceOptions)
