"""Images to localize: the views of a scene, or a folder of images with unknown poses."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
from torch import Tensor

from gsplatloc.localization.features import Keypoints
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.scene.image_files import VIDEO_SUFFIXES, image_files, unread_files
from gsplatloc.scene.image_header import DamagedImageError, exif_focal_35mm, image_size, is_heif
from gsplatloc.scene.images import decode_upright, upright_size
from gsplatloc.scene.intrinsics import doubt
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import utf8_path

# Relative: whole millimetres (at 26 mm 1 %), the distance of focus, nominal values of lenses, and lengths for
# 35 mm film that makers compute from the width or from the diagonal of the sensor (4 %).
EXIF_FOCAL_SIGMA = 0.03
_DIAGONAL_OF_35MM = math.hypot(36.0, 24.0)  # millimetres; as COLMAP has it, which does not read .heic
FOCAL_RANGE = (0.2, 20.0)  # of lenses, relative to the longer side of the image
_LIST_SUFFIXES = frozenset({".txt", ".json", ".csv", ".yaml", ".yml"})  # of lists of queries, as of hloc
_CHANNELS = ((), (1,), (3,), (4,))
_ROUNDING = 1e-3  # beyond 0 and 1: resampled floats overshoot


@dataclass(frozen=True)
class Query:
    """An image to localize, with its features."""

    image: np.ndarray  # [H, W, 3] uint8 RGB, undistorted where the camera is known
    camera: Camera  # if the focal length is unknown: a guess, with the principal point in the centre
    keypoints: Keypoints
    dense: Tensor  # [D, h, w] L2-normalised descriptors; cell (r, c) is centred at ((c+.5)W/w, (r+.5)H/h)
    focal_known: bool = True
    # Otherwise: standard deviation of the logarithm of the focal length about the camera's; inf = a guess
    focal_sigma: float = math.inf
    given_pose: Tensor | None = None  # [4, 4] cam_from_world of another estimator
    given_side: int | None = None  # longer side of the image as given, pixels, before it was shrunk

    @property
    def has_camera(self) -> bool:
        """Whether the focal length is known, if only probably."""
        return self.focal_known or math.isfinite(self.focal_sigma)

    def with_free_camera(self) -> "Query":
        """The query with a camera that is only probable, where matches contradict one given as exact."""
        return replace(self, focal_known=False, focal_sigma=0.0)


@dataclass(frozen=True)
class CameraPrior:
    """A camera that is probably right, such as that of EXIF data, which zoom, crops and rounding make wrong.

    The focal length, and where matches show it the principal point, are estimated with it.
    """

    camera: Camera
    focal_sigma: float  # standard deviation of the logarithm of the focal length where it is right


@dataclass(frozen=True)
class QueryImage:
    """An image to localize; it stays on disk until it is loaded."""

    name: str
    load_image: Callable[[], np.ndarray]  # -> [H, W, 3] uint8 RGB
    # Known exactly, probably, or None: the focal length is to be estimated
    load_camera: Callable[[], Camera | CameraPrior | None]
    cam_from_world: Tensor | None = None  # [4, 4] float64 ground truth, if it is known
    given_pose: Tensor | None = None  # [4, 4] float64 cam_from_world of another estimator, to be refined
    timestamp: float | None = None  # seconds, if the other estimator gave one
    path: Path | None = None  # of the file


@dataclass(frozen=True)
class Intrinsics:
    """Known intrinsics of the images in a folder; None = the focal length in EXIF data, else estimated."""

    focal: float | None = None  # pixels
    matrix: tuple[float, float, float, float] | None = None  # fx, fy, cx, cy in pixels

    def __post_init__(self) -> None:
        given = [] if self.focal is None else [self.focal]
        given += [] if self.matrix is None else self.matrix[:2]
        wrong = [focal for focal in given if not (math.isfinite(focal) and focal > 0)]
        if wrong:
            raise GSplatLocError(f"expected a positive focal length in pixels, found {wrong[0]}: correct it")
        if self.matrix is not None and not all(map(math.isfinite, self.matrix)):
            raise GSplatLocError(f"expected fx fy cx cy in pixels, found {self.matrix}: correct them")

    def check(self, paths: Sequence[Path]) -> None:
        """Raise `GSplatLocError` if these cannot be the intrinsics of the images: of another size or unit."""
        sizes: dict[tuple[int, int], Path] = {}
        for path in paths if self.focal is not None or self.matrix is not None else ():
            with suppress(DamagedImageError):
                sizes.setdefault(upright_size(path), path)
        if self.matrix is not None and len(sizes) > 1:
            found = " and ".join(f"{width}x{height}" for width, height in islice(sizes, 2))
            raise GSplatLocError(
                f"expected images of one size for fx fy cx cy, found {found}: localize those of each size on"
                " their own, or leave --intrinsics out"
            )
        for (width, height), path in sizes.items():
            camera = camera_of_file(path, self)
            assert isinstance(camera, Camera)
            low, high = FOCAL_RANGE
            focal = f"a focal length of {camera.fx:g}"
            wrong = doubt(camera) if low < camera.fx / max(width, height) < high else focal
            if wrong is not None:
                raise GSplatLocError(
                    f"expected intrinsics in pixels of an image of {width}x{height} for {quoted(path.name)},"
                    f" found {wrong}: correct --focal or --intrinsics"
                )


def as_rgb(image: object) -> np.ndarray:
    """An image of any usual kind as [H, W, 3] uint8 RGB.

    A path (rotated upright by EXIF data), an image of Pillow, or an array [H, W], [H, W, 1], [H, W, 3] or
    [H, W, 4]: uint8, uint16, or floats from 0 to 1. Transparent pixels are over black.
    """
    if isinstance(image, str | Path):
        return decode_upright(Path(image))
    if isinstance(image, PIL.Image.Image):
        if image.mode.startswith("I;16"):
            image = np.asarray(image).astype(np.uint16)
        else:
            image = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or image.shape[2:] not in _CHANNELS:
        found = list(image.shape) if isinstance(image, np.ndarray) else type(image).__name__
        raise GSplatLocError(f"expected a path, or an image [H, W] or [H, W, 3], found {found}: convert it")
    if not image.size:
        raise GSplatLocError(f"expected an image with pixels, found one of {list(image.shape)}: check it")
    pixels = _eight_bits(image[..., None] if image.ndim == 2 else image)
    if pixels.shape[2] == 4:
        pixels = np.rint(pixels[..., :3] * (pixels[..., 3:] / 255)).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)


def _eight_bits(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image // 257).astype(np.uint8)
    if not np.issubdtype(image.dtype, np.floating):
        raise GSplatLocError(f"expected an image of uint8, uint16 or floats, found {image.dtype}: convert it")
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN, too
        raise GSplatLocError(f"expected floats from 0 to 1, found {low:.4g} to {high:.4g}: divide by 255")
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def query_from_view(view: View) -> QueryImage:
    """A view with a known pose as a query; the pose is its ground truth."""
    return QueryImage(
        view.name, view.load_image, lambda: view.camera, view.cam_from_world, path=view.image_path
    )


def queries_in_folder(folder: Path | str, intrinsics: Intrinsics | None = None) -> list[QueryImage]:
    """Every image under `folder`, by name; the image itself if it is a file.

    Raises `GSplatLocError` if there is none.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() in VIDEO_SUFFIXES:
        raise GSplatLocError(
            f"expected a folder of images or an image at {folder}, found a video: extract its frames"
        )
    intrinsics = intrinsics or Intrinsics()
    if folder.is_file():
        if folder.suffix.lower() in _LIST_SUFFIXES:
            raise GSplatLocError(
                f"expected a folder of images or an image at {folder}, found a file of another kind: pass the"
                " folder of its images, and their camera by --intrinsics"
            )
        upright_size(folder)
        intrinsics.check([folder])
        return [_query_from_file(folder, folder.name, intrinsics)]
    if not folder.is_dir():
        raise GSplatLocError(
            f"expected a folder of images or an image at {folder}, found none: check the path"
        )
    paths = image_files(folder)
    if not paths:
        found = unread_files(folder) or "none"
        raise GSplatLocError(f"expected images in {folder}, found {found}: check the path")
    intrinsics.check(paths)
    return [_query_from_file(path, path.relative_to(folder).as_posix(), intrinsics) for path in paths]


def camera_of_file(path: Path, intrinsics: Intrinsics | None = None) -> Camera | CameraPrior | None:
    """The camera of an image: from given intrinsics, else a prior from EXIF data, else None.

    If no principal point is given, it is the centre of the image.
    """
    width, height = upright_size(path)
    intrinsics = intrinsics or Intrinsics()
    if intrinsics.matrix is not None:
        return Camera(width, height, *intrinsics.matrix)
    if intrinsics.focal is not None:
        return centered_camera(width, height, intrinsics.focal)
    focal = exif_focal(path)
    return None if focal is None else CameraPrior(centered_camera(width, height, focal), EXIF_FOCAL_SIGMA)


def check_camera(camera: object) -> None:
    """Raise `GSplatLocError` for what is no camera, such as a focal length."""
    if not isinstance(camera, Camera | CameraPrior | None):
        raise GSplatLocError(
            f"expected a gsplatloc.Camera or CameraPrior, found {type(camera).__name__}: make one of"
            " width, height, fx, fy, cx, cy in pixels"
        )


def check_pose(cam_from_world: Tensor | None) -> None:
    """Raise `GSplatLocError` unless a given pose, if any, is a rigid motion [4, 4] of finite numbers."""
    if cam_from_world is None:
        return
    if cam_from_world.shape != (4, 4):
        shape = list(cam_from_world.shape)
        raise GSplatLocError(f"expected cam_from_world [4, 4], found {shape}: give one rigid motion")
    if rigid_from_matrix(cam_from_world.cpu().numpy(), "the given pose") is None:
        raise GSplatLocError("expected a finite given pose, found NaN or infinity: leave the query out")


def exif_focal(path: Path) -> float | None:
    """The focal length in an image's EXIF data, pixels; None if it has none, or one that no lens has."""
    focal = _stated_focal(path)
    low, high = FOCAL_RANGE
    return focal if focal is not None and low < focal / max(image_size(path)) < high else None


def _stated_focal(path: Path) -> float | None:
    if is_heif(path):
        return exif_focal_35mm(path) / _DIAGONAL_OF_35MM * math.hypot(*image_size(path))
    try:
        with utf8_path(path) as readable:
            camera = pycolmap.infer_camera_from_image(readable)
    except (RuntimeError, ValueError):  # pycolmap reads fewer formats than OpenCV, and none of them has EXIF
        return None
    return camera.mean_focal_length() if camera.has_prior_focal_length else None


def centered_camera(width: int, height: int, focal: float) -> Camera:
    """A pinhole camera with square pixels and its principal point in the centre."""
    return Camera(width, height, focal, focal, width / 2, height / 2)


def _query_from_file(path: Path, name: str, intrinsics: Intrinsics | None) -> QueryImage:
    return QueryImage(name, lambda: decode_upright(path), lambda: camera_of_file(path, intrinsics), path=path)
