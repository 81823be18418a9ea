"""Options of every reader, and the image sizes that follow from them."""

import math
from dataclasses import dataclass

from gsplatloc.utils.errors import GSplatLocError

DIVISORS = (1, 2, 4, 8)
WIDTH_CAP = 1600  # pixels; wider images are shrunk to it if no resolution is given
FEATURE_STRIDE = 8  # pixels per cell of XFeat's dense map
FEATURE_MULTIPLE = 32  # pixels; XFeat shrinks its input to multiples of it
MOST_FRAMES = 300  # of a phone's recording, which has 30 or 60 a second
_MOST_ENLARGED = 8  # times wider than the file: more is a slip, and fills the memory
TEST_STRIDE = 8  # with `eval` every 8th image is a test image, as in Mip-NeRF 360 and 3DGS


@dataclass(frozen=True)
class SceneOptions:
    """How a scene is read."""

    images: str | None = None  # folder of the images within the scene; None = the layout's own name
    eval: bool = False  # make every 8th image a test image if the layout has no test split
    resolution: int | None = (
        None  # 1 2 4 8 divide; 0 = the feature map's size; else width; None = cap at 1600
    )
    white_background: bool = False  # background of transparent images: white, otherwise black
    strict: bool = False  # stop at an image that cannot be decoded; otherwise it is left out, with a count
    depth_units: float | None = None  # values of depth images per metre; None = the layout's own
    depth_along_rays: bool = False  # depth images hold distances along the rays of pixels, not z
    frames: int = MOST_FRAMES  # used of a phone's recording, at most, evenly spread
    require_poses: bool = True  # False: every image of a recording is read, with the identity as its pose

    def __post_init__(self) -> None:
        units = self.depth_units
        if units is not None and not 0 < units < math.inf:
            raise GSplatLocError(f"expected positive depth units per metre, found {units}: see --depth_units")
        if self.frames < 1:
            raise GSplatLocError(f"expected a positive number of frames, found {self.frames}: see --frames")

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) in pixels at which an image of `width` x `height` is loaded."""
        resolution = self.resolution
        if resolution is None or resolution == -1:  # -1 means "unset" in the 3DGS family
            target = min(width, WIDTH_CAP)
        elif resolution == 0:
            return _feature_map_side(width), _feature_map_side(height)
        elif resolution in DIVISORS:
            return max(1, round(width / resolution)), max(1, round(height / resolution))
        elif resolution > _MOST_ENLARGED * width:
            raise GSplatLocError(
                f"expected a width of at most {_MOST_ENLARGED} times the {width} pixels of an image, found"
                f" {resolution}: see --resolution"
            )
        elif resolution >= FEATURE_MULTIPLE:
            target = resolution
        else:
            raise GSplatLocError(
                f"expected a resolution of 0, 1, 2, 4, 8 or a width of at least {FEATURE_MULTIPLE} pixels,"
                f" found {resolution}: see --help"
            )
        return target, max(1, round(height * target / width))


def _feature_map_side(side: int) -> int:
    cells = side // FEATURE_MULTIPLE * FEATURE_MULTIPLE // FEATURE_STRIDE
    if cells == 0:
        raise GSplatLocError(
            f"expected images of at least {FEATURE_MULTIPLE} pixels a side for resolution 0, found {side}:"
            " choose another --resolution"
        )
    return cells
