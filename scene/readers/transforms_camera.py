"""Intrinsics of transforms files: nerfstudio's and instant-ngp's cameras as COLMAP's models."""

import math
from collections.abc import Mapping
from typing import Any

from gsplatloc.scene.images import CameraModel
from gsplatloc.utils.errors import GSplatLocError, quoted

_PERSPECTIVE_MODELS = frozenset(
    {"PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
)
_OTHER_LENSES = ("latlong", "equirectangular", "ftheta_p1")  # keys of instant-ngp's other cameras
_DISTORTION_PARAMS = ("k1", "k2", "k3", "k4", "p1", "p2")  # nerfstudio's distortion_params
_LARGEST = 1e9  # of a number in pixels or radians; more is a damaged file

Record = Mapping[str, Any]  # parsed JSON


def camera_model_of(record: Record, size: tuple[int, int]) -> CameraModel:
    """The camera model of a frame's intrinsics; `size` (width, height) is the default of w and h."""
    width, height = round(number(record, "w", size[0])), round(number(record, "h", size[1]))
    if width < 1 or height < 1:
        raise GSplatLocError(
            f"expected positive w and h in the transforms file, found {width} and {height}: correct them"
        )
    fx, fy = _focal_lengths(record, width, height)
    params = [fx, fy, number(record, "cx", width / 2), number(record, "cy", height / 2)]
    record = {**record, **_distortion_params(record)}
    k1, k2, k3, k4, k5, k6 = (number(record, f"k{order}", 0.0) for order in range(1, 7))
    p1, p2 = number(record, "p1", 0.0), number(record, "p2", 0.0)
    model = str(record.get("camera_model", "OPENCV")).upper()
    lens = next((key for key in _OTHER_LENSES if record.get(key)), None)
    if not lens and (model == "OPENCV_FISHEYE" or record.get("is_fisheye")):
        return CameraModel("OPENCV_FISHEYE", width, height, (*params, k1, k2, k3, k4))
    rational = any((k4, k5, k6))
    if lens or model not in _PERSPECTIVE_MODELS or (rational and model != "FULL_OPENCV"):
        found = lens or (f"{model} with k4, k5 or k6" if rational else model)
        raise GSplatLocError(
            f"expected a perspective or OPENCV_FISHEYE camera, found {quoted(found)}: undistort the images"
        )
    if k3 or rational:
        return CameraModel("FULL_OPENCV", width, height, (*params, k1, k2, p1, p2, k3, k4, k5, k6))
    if any((k1, k2, p1, p2)):
        return CameraModel("OPENCV", width, height, (*params, k1, k2, p1, p2))
    return CameraModel("PINHOLE", width, height, tuple(params))


def _distortion_params(record: Record) -> Record:
    """The coefficients of nerfstudio's list of them, by their names; none without that list."""
    listed = record.get("distortion_params")
    if listed is None:
        return {}
    if not isinstance(listed, list) or len(listed) != len(_DISTORTION_PARAMS):
        raise GSplatLocError(
            f"expected {' '.join(_DISTORTION_PARAMS)} for distortion_params in the transforms file, found"
            f" {quoted(repr(listed))}: correct it"
        )
    return dict(zip(_DISTORTION_PARAMS, listed))


def _focal_lengths(record: Record, width: int, height: int) -> tuple[float, float]:
    """(fx, fy) in pixels, from lengths or from fields of view; one axis is the default of the other."""
    fx, fy = number(record, "fl_x", 0.0), number(record, "fl_y", 0.0)
    if not fx and not fy:
        angle_x, angle_y = (number(record, f"camera_angle_{axis}", 0.0) for axis in "xy")
        if max(abs(angle_x), abs(angle_y)) >= math.pi:
            raise GSplatLocError(
                f"expected camera_angle_x below pi in the transforms file, found {max(angle_x, angle_y):g}:"
                " convert it to radians"
            )
        fx = width / 2 / math.tan(angle_x / 2) if angle_x else 0.0
        fy = height / 2 / math.tan(angle_y / 2) if angle_y else 0.0
    fx, fy = fx or fy, fy or fx
    if not (fx > 0 and fy > 0):
        raise GSplatLocError("expected fl_x or camera_angle_x in the transforms file, found neither: add one")
    return fx, fy


def number(record: Record, key: str, default: float) -> float:
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise GSplatLocError(
            f"expected a number for {key} in the transforms file, found {quoted(repr(value))}: correct it"
        )
    return float(value)
