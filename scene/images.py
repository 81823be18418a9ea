"""Decode images and depth maps on demand: undistortion and resampling.

Every resampling keeps image corners on image corners (docs/conventions.md), so `Camera.resized` describes it.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.image_header import (
    JPEG_START,
    check_complete,
    damaged,
    decoding_image,
    exif_orientation,
    is_complete,
    is_heif,
    open_image,
)
from gsplatloc.scene.image_header import image_size as image_size
from gsplatloc.scene.jpeg_scan import scan_is_whole
from gsplatloc.utils.colmap import pycolmap
from gsplatloc.utils.errors import GSplatLocError

# EXIF's orientations 2 to 8: whether to transpose, then flip top to bottom, then left to right.
_UPRIGHT = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False), 5: (True, False, False),
    6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
DEPTH_UNITS_PER_METRE = 1000.0  # 16-bit depth in millimetres, as Kinect and 7-Scenes store it
ASPECT_TOLERANCE = 0.01  # relative; rounding of images_4 changes it by less, rotation by far more
_TINY_COEFFICIENT = 1e-7  # moves no pixel, and is not zero
_TIFF_STARTS = (b"II", b"MM")
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA"})
_KEYED_MODES = frozenset({"P", "RGB"})  # in which a colour, or entries of the palette, may be transparent
_INVALID_DEPTH = 65535  # Kinect's value for "no measurement", like 0
_SKY = 65504.0, 1e9  # the largest half-precision number, and more than any distance: Blender writes 1e10
_ROWS_AT_ONCE = 64  # rows of a distortion map computed at once, which bounds the memory
_NO_SECOND_MAP = np.empty(0, np.float32)  # x and y are interleaved in the first
DepthDecoder = Callable[[Path, float], np.ndarray]  # file, its values per metre -> [h, w] float32 metres
_MAPS_KEPT = 2  # distortion maps in memory, 8 bytes per pixel each; most scenes have one camera


@dataclass(frozen=True)
class CameraModel:
    """A camera with distortion, as COLMAP models it; hashable, so that images share distortion maps."""

    name: str  # COLMAP's name of the model: PINHOLE, SIMPLE_RADIAL, OPENCV, ...
    width: int  # pixels of the stored image
    height: int
    params: tuple[float, ...]  # in COLMAP's order

    @classmethod
    def from_colmap(cls, camera: pycolmap.Camera) -> "CameraModel":
        return cls(camera.model.name, camera.width, camera.height, tuple(camera.params.tolist()))

    @classmethod
    def pinhole(cls, width: int, height: int, matrix: np.ndarray) -> "CameraModel":
        """The model without distortion of K [3, 3] in pixels."""
        params = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
        return cls("PINHOLE", width, height, tuple(float(value) for value in params))

    @property
    def distorted(self) -> bool:
        """Whether straight lines are bent: of a fisheye lens they are, also if all its coefficients are 0."""
        return "FISHEYE" in self.name or not self.colmap().is_undistorted()

    def colmap(self) -> pycolmap.Camera:
        return pycolmap.Camera(
            model=self.name, width=self.width, height=self.height, params=list(self.params)
        )

    def resized(self, width: int, height: int) -> "CameraModel":
        """The model for the image resampled to `width` x `height`."""
        camera = self.colmap()
        camera.rescale(width, height)
        return CameraModel.from_colmap(camera)


@lru_cache(maxsize=4096)
def undistorted_camera(camera_model: CameraModel) -> Camera:
    """The pinhole camera of the undistorted image: no pixel is outside the stored image, same resolution."""
    camera = camera_model.colmap()
    if camera_model.distorted:
        if camera.is_undistorted():  # a fisheye model, which pycolmap would take for a pinhole
            camera = _nearly_equidistant(camera)
        camera = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
    center = camera.principal_point_x, camera.principal_point_y
    return Camera(camera.width, camera.height, camera.focal_length_x, camera.focal_length_y, *center)


def _nearly_equidistant(camera: pycolmap.Camera) -> pycolmap.Camera:
    """The equidistant fisheye r = f theta, which fisheye models are without coefficients, with a tiny k1."""
    focal, center = camera.focal_length_x, (camera.principal_point_x, camera.principal_point_y)
    params = [focal, camera.focal_length_y, *center, _TINY_COEFFICIENT, 0.0, 0.0, 0.0]
    return pycolmap.Camera(model="OPENCV_FISHEYE", width=camera.width, height=camera.height, params=params)


@lru_cache(maxsize=_MAPS_KEPT)
def _distortion_map(camera_model: CameraModel) -> np.ndarray:
    """Where each undistorted pixel is in the stored image: [H, W, 2] float32, as indices for `cv2.remap`."""
    camera, source = undistorted_camera(camera_model), camera_model.colmap()
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    lookup = np.empty((camera.height, camera.width, 2), np.float32)
    for top in range(0, camera.height, _ROWS_AT_ONCE):
        rows = np.arange(top, min(top + _ROWS_AT_ONCE, camera.height))
        y = (rows + 0.5 - camera.cy) / camera.fy
        rays = np.stack([*np.meshgrid(x, y), np.ones((len(y), len(x)))], -1)
        # cv2.remap counts from the centre of the first pixel, our convention from its corner
        lookup[rows] = source.img_from_cam(rays.reshape(-1, 3)).reshape(len(y), len(x), 2) - 0.5
    return lookup


@dataclass(frozen=True)
class ImageLoader:
    """Decodes one image: undistorted, at `width` x `height`, as [H, W, 3] uint8 RGB."""

    path: Path
    camera_model: CameraModel
    width: int
    height: int
    white_background: bool = False

    def __call__(self) -> np.ndarray:
        image = decode_rgb(self.path, self.white_background)
        _check_size(image, self.camera_model, self.path)
        if self.camera_model.distorted:
            image = cv2.remap(
                image,
                _distortion_map(self.camera_model),
                _NO_SECOND_MAP,
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return resize_rgb(image, self.width, self.height)


@dataclass(frozen=True)
class MaskLoader:
    """Decodes the mask of one image, pixel for pixel with it: [H, W] bool, False where it is not used.

    That is where it is black or, in a mask with transparency, transparent.
    """

    path: Path
    camera_model: CameraModel  # of the image that the mask belongs to
    width: int
    height: int

    def __call__(self) -> np.ndarray:
        stored = _read(self.path, cv2.IMREAD_UNCHANGED)
        if stored.shape[2:] in ((2,), (4,)):
            stored = np.where(stored[..., -1:] > 0, stored[..., :-1], 0)
        used = np.asarray(np.atleast_3d(stored).any(2), np.uint8)
        return _registered(used, self.path, self.camera_model, self.width, self.height) > 0


@dataclass(frozen=True)
class DepthLoader:
    """Decodes the depth map of one image, pixel for pixel with it: [H, W] float32 metres, 0 where masked."""

    path: Path
    camera_model: CameraModel  # of the image that the depth is registered to
    width: int
    height: int
    units_per_metre: float = DEPTH_UNITS_PER_METRE
    mask: MaskLoader | None = None
    float_units: float = 1.0  # per metre, of files of floats
    decode: DepthDecoder | None = None  # of other kinds of files, in metres; None = `decode_depth`
    along_rays: bool = False  # the file holds distances along the rays of pixels

    def units(self) -> float:
        """The units per metre of this file's kind."""
        if self.decode is not None:
            return self.units_per_metre
        return self.float_units if _stored_depth(self.path).dtype.kind == "f" else self.units_per_metre

    def __call__(self) -> np.ndarray:
        if self.decode is not None:
            depth = self.decode(self.path, self.units_per_metre)
        else:
            depth = decode_depth(self.path, self.units_per_metre, self.float_units)
        depth = _registered(depth, self.path, self.camera_model, self.width, self.height)
        if self.along_rays:
            camera = undistorted_camera(self.camera_model).resized(self.width, self.height)
            depth = depth / _ray_lengths(camera)
        return depth if self.mask is None else np.where(self.mask(), depth, np.float32(0))


def _ray_lengths(camera: Camera) -> np.ndarray:
    """[H, W] float32: the length of the ray through each pixel's centre, up to a depth of 1."""
    x = (np.arange(camera.width, dtype=np.float32) + np.float32(0.5 - camera.cx)) / np.float32(camera.fx)
    y = (np.arange(camera.height, dtype=np.float32) + np.float32(0.5 - camera.cy)) / np.float32(camera.fy)
    lengths: np.ndarray = np.sqrt(1 + x * x + (y * y)[:, None])
    return lengths


def _registered(stored: np.ndarray, path: Path, model: CameraModel, width: int, height: int) -> np.ndarray:
    """A depth map or mask [h, w], which may be smaller than its image, undistorted at `width` x `height`.

    By nearest neighbours: a mean across an edge is the depth of no surface.
    """
    model = _model_of(stored.shape[1], stored.shape[0], path, model)
    if model.distorted:
        # In numpy: OpenCV 5 leaves some pixels at the border undefined.
        column, row = np.rint(_distortion_map(model)).astype(np.int32).transpose(2, 0, 1)
        stored = stored[row.clip(0, model.height - 1), column.clip(0, model.width - 1)]
    if stored.shape == (height, width):
        return stored
    return cv2.resize(stored, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _model_of(width: int, height: int, path: Path, model: CameraModel) -> CameraModel:
    """The camera model of a depth map or mask of this size, which may be smaller than its image."""
    if (width, height) == (model.width, model.height):
        return model
    if abs(width * model.height / (height * model.width) - 1) > ASPECT_TOLERANCE:
        raise GSplatLocError(
            f"expected {model.width}x{model.height} pixels or that shape in {path}, found {width}x{height}:"
            " register depth and masks to the image"
        )
    return model.resized(width, height)


def decode_rgb(path: Path, white_background: bool = False) -> np.ndarray:
    """The image at `path` as stored, [H, W, 3] uint8 RGB, over a black or white background."""
    if is_heif(path):
        return _read_heif(path)
    if _has_alpha(path):
        stored = _read(path, cv2.IMREAD_UNCHANGED)
        if stored.ndim != 3 or stored.shape[2] not in (2, 4) or stored.dtype not in (np.uint8, np.uint16):
            raise damaged(path, f"{stored.dtype} of shape {stored.shape}, no colours with transparency")
        if stored.dtype == np.uint16:
            stored = (stored // 257).astype(np.uint8)
        if not stored[..., -1].any():  # it would be mapped as one without light
            raise damaged(path, "one that is transparent everywhere")
        alpha = stored[..., -1:].astype(np.float32) / 255
        behind = 255.0 if white_background else 0.0
        bgr = np.broadcast_to(stored[..., :-1], (*stored.shape[:2], 3))
        return np.rint(bgr[..., ::-1] * alpha + behind * (1 - alpha)).astype(np.uint8)
    return _read(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def check_decodable(path: Path) -> None:
    """Raise `DamagedImageError` if the image is not whole; JPEGs, most photos, are decoded small."""
    check_complete(path)
    with path.open("rb") as file:
        is_jpeg = file.read(len(JPEG_START)) == JPEG_START
    if not is_jpeg:
        decode_rgb(path)


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of `decode_upright`, from the header alone."""
    width, height = image_size(path)
    return (height, width) if _upright_steps(path)[0] else (width, height)


def decode_upright(path: Path) -> np.ndarray:
    """The image rotated upright by its EXIF orientation: [H, W, 3] uint8 RGB."""
    image = decode_rgb(path)
    transpose, flip_rows, flip_columns = _upright_steps(path)
    image = image.transpose(1, 0, 2) if transpose else image
    image = image[::-1] if flip_rows else image
    return np.ascontiguousarray(image[:, ::-1] if flip_columns else image)


def decode_depth(
    path: Path, units_per_metre: float = DEPTH_UNITS_PER_METRE, float_units: float = 1.0
) -> np.ndarray:
    """A depth map -> [H, W] float32 metres, 0 where there is no measurement.

    That is at 0, 65535, the largest integer of the file's kind, what is not finite, and the values of
    renderers for the sky (`_SKY`). Images and arrays (.npy) of integers, of 16 bits or more, have
    `units_per_metre`, of floats `float_units`.
    """
    stored = _stored_depth(path)
    if stored.ndim == 2 and stored.dtype.kind == "f":
        values = stored.astype(np.float32)
        measured = (values != _SKY[0]) & (values < _SKY[1])
        return where_known(np.where(measured, values, 0) / np.float32(float_units))
    if stored.ndim != 2 or stored.dtype.kind not in "iu" or stored.dtype.itemsize < 2:
        raise GSplatLocError(
            f"expected 16-bit depth in {path}, found {stored.dtype} of shape {stored.shape}:"
            " remove the depth folder or rewrite it"
        )
    valid = (stored > 0) & (stored != _INVALID_DEPTH) & (stored != np.iinfo(stored.dtype).max)
    return np.where(valid, stored, 0).astype(np.float32) / np.float32(units_per_metre)


def where_known(metres: np.ndarray) -> np.ndarray:
    """Depth with 0 for what is not finite, or not in front of the camera."""
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def _stored_depth(path: Path) -> np.ndarray:
    return _read_array(path) if path.suffix.lower() == ".npy" else _read(path, cv2.IMREAD_UNCHANGED)


def resize_rgb(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resample [H, W, 3]: by area if it becomes smaller (no aliasing), by cubic interpolation if larger."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _upright_steps(path: Path) -> tuple[bool, bool, bool]:
    """The row of `_UPRIGHT` for the EXIF orientation of an image; no step if it has none."""
    return _UPRIGHT.get(exif_orientation(path), (False, False, False))


def _has_alpha(path: Path) -> bool:
    with open_image(path) as image:
        return image.mode in _ALPHA_MODES or (image.mode in _KEYED_MODES and image.has_transparency_data)


def _read(path: Path, flags: int) -> np.ndarray:
    """Decode from memory: OpenCV opens no file whose name is not UTF-8, and fills cut files with grey."""
    image_size(path)  # refuses sizes that the file cannot hold, before memory is allocated
    with decoding_image(path, (OSError,)):
        data = path.read_bytes()
    if not is_complete(io.BytesIO(data)):
        raise damaged(path, "a file that was cut short")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise damaged(path, error.err or "one that OpenCV cannot decode") from None
    if image is None:
        raise damaged(path, "none that can be decoded")
    if data[:2] == JPEG_START and not scan_is_whole(data):
        raise damaged(path, "one that was cut short")
    return _tiff_as_stored(image, path) if data[:2] in _TIFF_STARTS else image


def _tiff_as_stored(image: np.ndarray, path: Path) -> np.ndarray:
    """A TIFF that OpenCV decoded: without the rotation that it always applies, and without its leniency."""
    with open_image(path) as opened, decoding_image(path):
        opened.load()
    transpose, flip_rows, flip_columns = _upright_steps(path)
    image = image[:, ::-1] if flip_columns else image
    image = image[::-1] if flip_rows else image
    return np.ascontiguousarray(image.swapaxes(0, 1) if transpose else image)


def _read_heif(path: Path) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright."""
    check_complete(path)
    with open_image(path) as image, decoding_image(path):
        return np.asarray(image.convert("RGB"))


def _read_array(path: Path) -> np.ndarray:
    """The array [H, W] in a .npy file; of one channel, [H, W, 1] or [1, H, W], without that axis."""
    with decoding_image(path, (OSError, ValueError, EOFError)):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
            expected = math.prod(shape) * dtype.itemsize
            if path.stat().st_size - file.tell() != expected:
                raise ValueError(f"an array of {expected} bytes in a file of another size")
        stored = np.load(path, allow_pickle=False)
    if stored.ndim == 3 and stored.shape[2] == 1:
        return stored[..., 0]
    return stored[0] if stored.ndim == 3 and stored.shape[0] == 1 else stored


def _check_size(image: np.ndarray, camera_model: CameraModel, path: Path) -> None:
    height, width = image.shape[:2]
    if (width, height) != (camera_model.width, camera_model.height):
        raise GSplatLocError(
            f"expected {camera_model.width}x{camera_model.height} pixels in {path}, found {width}x{height}:"
            " the file changed since the scene was read, or its calibration is of another image"
        )
