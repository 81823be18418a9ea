"""Views from an image, its camera model and its pose, and their division into training and test views."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from gsplatloc.scene.cameras import Camera, Scene, View
from gsplatloc.scene.image_header import DamagedImageError
from gsplatloc.scene.images import (
    ASPECT_TOLERANCE,
    DEPTH_UNITS_PER_METRE,
    CameraModel,
    DepthDecoder,
    DepthLoader,
    ImageLoader,
    MaskLoader,
    check_decodable,
    image_size,
    undistorted_camera,
)
from gsplatloc.scene.readers.options import TEST_STRIDE, SceneOptions
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.parallel import for_each

UNREAD_DEPTH = frozenset({".exr", ".pfm", ".npz"})  # but of phones' recordings
_SMALLEST_PART = 0.3  # of the width: undistortion leaves at least 0.2, however wrong the coefficients are
_FOCAL_RANGE = (0.05, 200.0)  # of lenses, relative to the longer side: 169 degrees to a third of a degree
_WIDE_MODELS = frozenset({"EUCM", "FOV", "DIVISION", "SIMPLE_DIVISION"})  # may see more than 180 degrees


class IntrinsicsError(GSplatLocError):
    """Intrinsics that no lens has."""


def make_view(
    name: str,
    image_path: Path,
    camera_model: CameraModel,
    cam_from_world: Tensor,
    options: SceneOptions,
    depth_path: Path | None = None,
    *,
    mask_path: Path | None = None,
    units_per_metre: float = DEPTH_UNITS_PER_METRE,
    decode: DepthDecoder | None = None,
) -> View:
    """A view over `image_path` at the options' resolution; only the image's header is read."""
    camera_model = fit_camera_model(camera_model, image_path)
    _check_intrinsics(camera_model, image_path)
    pinhole: Camera = undistorted_camera(camera_model)
    width, height = options.size_of(pinhole.width, pinhole.height)
    units = options.depth_units or units_per_metre
    mask = None if mask_path is None else MaskLoader(mask_path, camera_model, width, height)
    depth = None
    if depth_path is not None:
        float_units, along_rays = options.depth_units or 1.0, options.depth_along_rays
        depth = DepthLoader(
            depth_path, camera_model, width, height, units, mask, float_units, decode, along_rays
        )
    return View(
        name=name,
        camera=pinhole.resized(width, height),
        cam_from_world=cam_from_world,
        image_path=image_path,
        load_image=ImageLoader(image_path, camera_model, width, height, options.white_background),
        load_depth=depth,
        load_mask=mask,
    )


def fit_camera_model(camera_model: CameraModel, image_path: Path) -> CameraModel:
    """The model for the stored image, which may be a resized copy (`--images images_4`) of the calibrated."""
    width, height = image_size(image_path)
    if (width, height) == (camera_model.width, camera_model.height):
        return camera_model
    if abs(width * camera_model.height / (height * camera_model.width) - 1) > ASPECT_TOLERANCE:
        raise GSplatLocError(
            f"expected {camera_model.width}x{camera_model.height} pixels or that shape in {image_path}, found"
            f" {width}x{height}: the calibration is of another image, or the image was rotated since"
        )
    return camera_model.resized(width, height)


def _check_intrinsics(camera_model: CameraModel, image_path: Path) -> None:
    """Raise `IntrinsicsError` for those of no lens: relative to the image's size, or not filled in."""
    camera = camera_model.colmap()
    focal, longer = camera.mean_focal_length(), max(camera_model.width, camera_model.height)
    if not camera.focal_length_idxs():  # of a panorama
        found = f"{camera_model.name}, which no pinhole camera replaces"
    elif not _FOCAL_RANGE[0] < focal / longer < _FOCAL_RANGE[1]:
        found = f"a focal length of {focal:g}"
    elif _folds(camera_model):
        found = f"{camera_model.name} with coefficients that fold the image over"
    elif not _is_wide(camera_model) and _part_left(camera_model) < _SMALLEST_PART:
        found = (
            f"{camera_model.name} with coefficients that leave {_part_left(camera_model):.0%} of the width"
        )
    else:
        return
    raise IntrinsicsError(
        f"expected intrinsics in pixels of an image of {camera_model.width}x{camera_model.height} for"
        f" {image_path}, found {found}: correct them"
    )


def _is_wide(camera_model: CameraModel) -> bool:
    return "FISHEYE" in camera_model.name or camera_model.name in _WIDE_MODELS


def _part_left(camera_model: CameraModel) -> float:
    """The width of the undistorted image relative to the stored one."""
    return undistorted_camera(camera_model).width / camera_model.width


@lru_cache(maxsize=4096)
def _folds(camera_model: CameraModel) -> bool:
    """Whether no ray, or that of another pixel, is seen in the middle of a side of the image."""
    if _is_wide(camera_model):
        return False
    camera, (width, height) = camera_model.colmap(), (camera_model.width, camera_model.height)
    pixels = np.array([[width, height / 2], [0, height / 2], [width / 2, height], [width / 2, 0]], np.float64)
    rays = camera.cam_from_img(pixels)
    back = None if rays is None else camera.img_from_cam(np.column_stack([rays, np.ones(len(rays))]))
    return back is None or not (np.abs(back - pixels) < 1).all()  # NaN, too


def split_test_views(views: list[View], options: SceneOptions) -> tuple[list[View], list[View]]:
    """(train, test) in order of names: with `eval`, the first of every eight views is a test view."""
    ordered = sorted(views, key=lambda view: view.name)
    if not options.eval:
        return ordered, []
    train = [view for index, view in enumerate(ordered) if index % TEST_STRIDE]
    return train, ordered[::TEST_STRIDE]


def without_damaged(scene: Scene, strict: bool = False, quiet: bool = False) -> Scene:
    """The scene without training images that were cut short, which its report counts; raises if `strict`.

    This is for mapping. Localization reads the same scene and does not look at training images.
    """
    errors = for_each(_damage, [view.image_path for view in scene.train], "checking images", quiet)
    damaged = [(view, error) for view, error in zip(scene.train, errors) if error is not None]
    if not damaged:
        return scene
    view, error = damaged[0]
    if strict or len(damaged) == len(scene.train):
        raise error
    whole = [view for view, error in zip(scene.train, errors) if error is None]
    example = f"for example {view.image_path.name}: {error.found}"
    left_out = f"left out {len(damaged)} training images that are damaged, {example}"
    return replace(scene, train=whole, report=f"{scene.report}; {left_out}")


def _damage(path: Path) -> DamagedImageError | None:
    try:
        check_decodable(path)
    except DamagedImageError as error:
        return error
    return None
