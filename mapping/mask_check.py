"""Do the masks of a scene leave anything of its images? Tools disagree on which value means "used"."""

import math
import sys
from collections.abc import Sequence

import numpy as np

from gsplatloc.scene.cameras import View
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

_VIEWS = 20  # whose masks are read
_MUCH = 0.5  # of the pixels; people, cars and the photographer's own tripod are less


def check_masks(views: Sequence[View]) -> None:
    """Warn on stderr if masks leave out most of the images; raises `GSplatLocError` if they leave nothing."""
    masks = [view.load_mask for view in views if view.load_mask is not None]
    chosen = masks[:: max(1, math.ceil(len(masks) / _VIEWS))]
    left_out = 1 - float(np.mean([load().mean() for load in chosen] or [1.0]))
    if left_out == 1.0:
        raise GSplatLocError(
            "expected masks that are white where an image is used, found them black everywhere: invert or"
            " remove them"
        )
    if left_out > _MUCH:
        log(
            f"warning: the masks leave out {left_out:.0%} of the images: they should be white where an image"
            " is used, and black where it is not",
            stream=sys.stderr,
        )
