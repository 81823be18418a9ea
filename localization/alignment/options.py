"""Options of alignment, in a module that loads neither torch nor numpy: a command line is parsed with it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DirectOptions:
    """Alignment of a rendering with the query image. Defaults are from held-out views of RedKitchen."""

    scale: float = 0.5  # size of the rendering relative to the query image; 1 is no more accurate
    min_side: int = 320  # pixels, longer side: smaller renderings are enlarged to it, or to the query image
    # Of a query image that was shrunk to the size of the mapping images, the rendering has `scale` times the
    # size before that, up to this many pixels on the longer side.
    shrunk_side: int = 640
    feature_weight: float = 0.0  # of the descriptor term relative to the photometric one; 0 = not used
    prior_weight: float = 0.15  # factor on the initial pose's information: both share the map's errors
    patches: bool = True  # KLT patches are added as reprojection residuals after photometric convergence


Parametrization = Literal["se3", "quaternion"]


@dataclass(frozen=True)
class AdamOptions:
    """A descent of an `Objective`."""

    lr: float = 1e-3  # radians of view, the first step in every direction
    iterations: int = 250  # maximum number of steps
    patience: int = 5  # steps without progress after which the learning rate falls to a third


@dataclass(frozen=True)
class DescentOptions:
    """Learning rates of a photometric descent, from the first to the last step exponentially."""

    iterations: int = 1000  # maximum number of Adam steps (paper: 2000); 100 to 200 are usual
    # learning rate of the first step, in radians of rotation and in scene depths of translation
    lr: float = 1e-2
    last_lr: float = 1e-5  # learning rate of the last step
