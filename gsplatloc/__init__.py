"""Visual localization in feature splat maps: posed images in, the camera pose of a new image out.

>>> import gsplatloc
>>> gsplatloc.train("scenes/kitchen", "output/kitchen")
>>> localizer = gsplatloc.Localizer.load("output/kitchen")
>>> localizer.localize(image, camera).final.cam_from_world

The public names below are imported on first use: `import gsplatloc` alone loads neither torch nor OpenCV.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsplatloc.api import track as track
    from gsplatloc.api import train as train
    from gsplatloc.gaussian_renderer import render as render
    from gsplatloc.localization.localizer import Localizer as Localizer
    from gsplatloc.localization.queries import CameraPrior as CameraPrior
    from gsplatloc.localization.result import Localization as Localization
    from gsplatloc.localization.result import PoseEstimate as PoseEstimate
    from gsplatloc.localization.result import Status as Status
    from gsplatloc.localization.tiles.localizer import TiledLocalizer as TiledLocalizer
    from gsplatloc.scene import read_scene as read_scene
    from gsplatloc.scene.cameras import Camera as Camera
    from gsplatloc.scene.gaussians import Gaussians as Gaussians
    from gsplatloc.utils.errors import GSplatLocError as GSplatLocError

_PUBLIC = {
    "Camera": "gsplatloc.scene.cameras",
    "CameraPrior": "gsplatloc.localization.queries",
    "GSplatLocError": "gsplatloc.utils.errors",
    "Gaussians": "gsplatloc.scene.gaussians",
    "Localization": "gsplatloc.localization.result",
    "Localizer": "gsplatloc.localization.localizer",
    "PoseEstimate": "gsplatloc.localization.result",
    "Status": "gsplatloc.localization.result",
    "TiledLocalizer": "gsplatloc.localization.tiles.localizer",
    "read_scene": "gsplatloc.scene",
    "render": "gsplatloc.gaussian_renderer",
    "track": "gsplatloc.api",
    "train": "gsplatloc.api",
}
__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604  (names resolved by __getattr__)

# The subpackages. A wheel holds them in this folder; in a checkout they lie one level higher.
_PARTS = (
    "arguments", "datasets", "gaussian_renderer", "localization", "mapping", "reproduction", "scene",
    "tracking", "utils", "visualization",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[1]


class _CheckoutFinder:
    """Import hook for the subpackages in a checkout.

    The checkout's root is not added to `__path__`: `import gsplatloc.train` would run the script train.py.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, part = name.rpartition(".")
        return PathFinder.find_spec(name, [str(_ROOT)]) if package == __name__ and part in _PARTS else None


if (_ROOT / "train.py").is_file() and (_ROOT / "gaussian_renderer").is_dir():
    # First of all: an editable install of another checkout would find its own parts.
    sys.meta_path.insert(0, _CheckoutFinder)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from gsplatloc.utils.version import version

        return version()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gsplatloc' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
