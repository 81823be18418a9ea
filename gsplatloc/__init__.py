"""Visual localization in feature splat maps: posed images in, the camera of a new image out.

>>> import gsplatloc
>>> localizer = gsplatloc.Localizer.load("output/kitchen")
>>> localizer.localize(image, camera).final.cam_from_world

The public names below are imported on first use, so that `import gsplatloc` costs nothing.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsplatloc.gaussian_renderer import render as render
    from gsplatloc.localization.localizer import Localizer as Localizer
    from gsplatloc.localization.result import Localization as Localization
    from gsplatloc.localization.result import PoseEstimate as PoseEstimate
    from gsplatloc.localization.result import Status as Status
    from gsplatloc.mapping.train import train as train
    from gsplatloc.scene import read_scene as read_scene
    from gsplatloc.scene.cameras import Camera as Camera
    from gsplatloc.scene.gaussians import Gaussians as Gaussians
    from gsplatloc.tracking.run import track as track

_PUBLIC = {
    "Camera": "gsplatloc.scene.cameras",
    "Gaussians": "gsplatloc.scene.gaussians",
    "Localization": "gsplatloc.localization.result",
    "Localizer": "gsplatloc.localization.localizer",
    "PoseEstimate": "gsplatloc.localization.result",
    "Status": "gsplatloc.localization.result",
    "read_scene": "gsplatloc.scene",
    "render": "gsplatloc.gaussian_renderer",
    "track": "gsplatloc.tracking.run",
    "train": "gsplatloc.mapping.train",
}
__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604  (names resolved by __getattr__)

# In a checkout the parts of the package are folders at the root, beside train.py; in a wheel they are here.
_ROOT = Path(__file__).resolve().parents[1]
if (_ROOT / "train.py").is_file() and (_ROOT / "gaussian_renderer").is_dir():
    __path__.append(str(_ROOT))


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
