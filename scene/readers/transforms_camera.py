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
# Keys of other programs, which are not read.
_OTHER_LENGTHS = ("fx", "fy", "K", "intrinsics", "intrinsic_matrix", "camera_matrix", "camera_intrinsics")
_OTHER_DISTORTION = ("k", "distortion", "distortion_coefficients", "dist_coeffs")
_SHIFTS = ("shift_x", "shift_y")  # of Blender's cameras
_ANGLE_TOLERANCE = 0.02  # relative difference of the focal lengths that two keys state
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
    _require_known_effects(record)
    record = {**record, **_distortion_params(record)}
    k1, k2, k3, k4, k5, k6 = (number(record, f"k{order}", 0.0) for order in range(1, 7))
    p1, p2 = number(record, "p1", 0.0), number(record, "p2", 0.0)
    model = str(record.get("camera_model") or "OPENCV").upper()
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


def _require_known_effects(record: Record) -> None:
    """Raise `GSplatLocError` for distortion or a shift under a key that is not read."""
    distortion = () if "k1" in record or "distortion_params" in record else _OTHER_DISTORTION
    shifts = () if "cx" in record else _SHIFTS
    if unknown := next((key for key in (*distortion, *shifts) if _has_effect(record.get(key))), None):
        raise GSplatLocError(
            f"expected k1 k2 p1 p2 and cx cy in the transforms file, found {unknown}, which is not read:"
            " write what it states under those keys"
        )


def _has_effect(value: Any) -> bool:
    """Whether a value of any nesting holds a number that is not zero."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_effect, inner)) or (isinstance(value, int | float) and value != 0)


def _focal_lengths(record: Record, width: int, height: int) -> tuple[float, float]:
    """(fx, fy) in pixels, from lengths or from fields of view; one axis is the default of the other."""
    lengths = number(record, "fl_x", 0.0), number(record, "fl_y", 0.0)
    angles = number(record, "camera_angle_x", 0.0), number(record, "camera_angle_y", 0.0)
    if not any(lengths) and max(map(abs, angles)) >= math.pi:
        key, angle = max(zip(("camera_angle_x", "camera_angle_y"), angles), key=lambda pair: abs(pair[1]))
        raise GSplatLocError(
            f"expected {key} below pi in the transforms file, found {angle:g}: convert it to radians"
        )
    of_angles = [
        side / 2 / math.tan(angle / 2) if angle else 0.0 for side, angle in zip((width, height), angles)
    ]
    fx, fy = lengths if any(lengths) else of_angles
    if min(fx, fy) < 0 or not (fx or fy):
        other = next((f"{key}, which is not read" for key in _OTHER_LENGTHS if record.get(key)), "neither")
        found = f"{fx:g} and {fy:g}" if fx or fy else other
        raise GSplatLocError(
            f"expected a positive fl_x or camera_angle_x in the transforms file, found {found}: correct it"
        )
    return fx or fy, fy or fx


def contradicting_angle(record: Record, camera_model: CameraModel) -> str | None:
    """A camera_angle_x that states another focal length than fl_x, which is used; None if it does not."""
    angle, focal = number(record, "camera_angle_x", 0.0), number(record, "fl_x", 0.0)
    if not 0 < angle < math.pi or not focal:
        return None
    stated = camera_model.width / 2 / math.tan(angle / 2)
    if abs(stated / focal - 1) < _ANGLE_TOLERANCE:
        return None
    return f"warning: camera_angle_x states a focal length of {stated:g}, fl_x {focal:g}, which is used"


def number(record: Record, key: str, default: float) -> float:
    value = record.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise GSplatLocError(
            f"expected a number for {key} in the transforms file, found {quoted(repr(value))}: correct it"
        )
    return float(value)
