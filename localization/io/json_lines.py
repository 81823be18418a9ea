"""One localized query as a JSON object on one line, for other programs to read."""

import json
import math
from typing import Any

from torch import Tensor

from gsplatloc.localization.evaluation import QueryResult, stage_error


def json_line(result: QueryResult) -> str:
    """Name, status and pose of a query, without a line break; what is unknown is null.

    Translations are metres in the scene's coordinates, rotations degrees; `cam_from_world` is 4 x 4, row by
    row, in OpenCV's axes. `covariance` is 6 x 6, of (rho, phi) in metres and radians.
    """
    localization, final = result.localization, result.localization.final
    error = stage_error(result, None)
    camera = final.camera
    values = {
        "name": result.name,
        "status": str(localization.status),
        "advice": result.reason or localization.advice or None,
        "cam_from_world": _numbers(final.cam_from_world),
        "center": _numbers(final.center),
        "quaternion_wxyz": _numbers(final.quaternion),
        "covariance": _numbers(final.covariance),
        "expected_translation_m": final.expected_translation_m,
        "expected_rotation_deg": final.expected_rotation_deg,
        "inliers": final.inliers,
        "score": localization.score,
        "width": camera.width or None,
        "height": camera.height or None,
        "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy] if final.ok else None,
        "translation_error_m": error and _finite(error.translation_m),
        "rotation_error_deg": error and _finite(error.rotation_deg),
        "ms": round(localization.total_ms, 1),
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _numbers(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.tolist()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
