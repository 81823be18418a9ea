"""What may be asked of every reader, and the sizes that follow from it."""

from dataclasses import dataclass

from gsplatloc.utils.errors import GSplatLocError

DIVISORS = (1, 2, 4, 8)
WIDTH_CAP = 1600  # pixels, the width above which images are shrunk when no resolution is given
FEATURE_STRIDE = 8  # pixels per cell of XFeat's dense map
FEATURE_MULTIPLE = 32  # XFeat shrinks its input to multiples of this
HOLDOUT = 8  # every 8th image is a test image with `eval`, as in Mip-NeRF 360 and 3DGS


@dataclass(frozen=True)
class SceneOptions:
    """How a scene is read."""

    images: str | None = None  # folder of the images within the scene; None = the layout's own name
    eval: bool = False  # hold out every 8th image where the layout has no test split of its own
    resolution: int | None = (
        None  # 1 2 4 8 divide; 0 = the feature map's size; else width; None = cap at 1600
    )
    white_background: bool = False  # what shows through transparent images: white, otherwise black

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) in pixels at which an image of `width` x `height` is loaded."""
        resolution = self.resolution
        if resolution is None or resolution == -1:  # -1 is how the 3DGS family spells "unset"
            target = min(width, WIDTH_CAP)
        elif resolution == 0:
            return _feature_map_side(width), _feature_map_side(height)
        elif resolution in DIVISORS:
            return max(1, round(width / resolution)), max(1, round(height / resolution))
        elif resolution > 0:
            target = resolution
        else:
            raise GSplatLocError(
                f"expected a resolution of 0, 1, 2, 4, 8 or a width in pixels, found {resolution}: see --help"
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
