"""Localized queries as JSON objects, one a line, for other programs and for the viewer."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsplatloc.localization.evaluation import QueryResult, stage_error
from gsplatloc.localization.result import Matches, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import decoding
from gsplatloc.utils.io import write_text


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
        "image": None if result.image is None else str(result.image),
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
        "camera_replaced": localization.camera_replaced,
        "intrinsics": [camera.fx, camera.fy, camera.cx, camera.cy] if final.ok else None,
        "true_cam_from_world": _numbers(result.truth),
        "translation_error_m": error and _finite(error.translation_m),
        "rotation_error_deg": error and _finite(error.rotation_deg),
        "ms": round(localization.total_ms, 1),
        "stages": {
            name: {
                "status": str(stage.status),
                "accepted": stage.accepted,
                "cam_from_world": _numbers(stage.cam_from_world),
                "inliers": stage.inliers,
                "ms": round(stage.elapsed_ms, 1),
            }
            for name, stage in localization.stages.items()
        },
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def write_json_lines(path: Path, results: Sequence[QueryResult]) -> None:
    """Write a line per query, atomically."""
    write_text(path, "".join(json_line(result) + "\n" for result in results))


@dataclass(frozen=True)
class LocalizedQuery:
    """A line of such a file that has a pose."""

    name: str
    status: Status
    camera: Camera
    cam_from_world: Tensor  # [4, 4] float64
    covariance: Tensor | None  # [6, 6] float64
    expected_translation_m: float | None
    expected_rotation_deg: float | None
    translation_error_m: float | None  # None without ground truth
    image: Path | None  # where the image was
    stages: Mapping[str, Tensor] = field(default_factory=dict)  # poses [4, 4] of the stages that have one
    matches: Matches | None = None  # of the final pose; not in the line
    line: int = 0  # of the file, from 0


def localized_query(result: QueryResult) -> LocalizedQuery | None:
    """A result as its line describes it, with its matches; None without a pose."""
    if not result.localization.final.ok:
        return None
    return replace(_query(json.loads(json_line(result))), matches=result.localization.final.matches)


def _lines(path: Path) -> list[str]:
    """Not `splitlines`: names may hold separators of Unicode, which end no line of JSON."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def read_json_lines(path: Path) -> list[LocalizedQuery]:
    """The queries of a file that have a pose. Raises GSplatLocError for a damaged file."""
    with decoding("localized queries, a JSON object a line", path, "localize again"):
        lines = [json.loads(line) for line in _lines(path)]
        return [
            _query(line, number) for number, line in enumerate(lines) if line["cam_from_world"] is not None
        ]


@dataclass(frozen=True)
class Outcome:
    """What became of a query, failed ones included."""

    status: Status
    cam_from_world: Tensor | None  # [4, 4] float64
    # Errors in metres and degrees: None without ground truth, infinite for a failed query with ground truth.
    translation_error_m: float | None
    rotation_error_deg: float | None
    ms: float


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """The outcomes of all queries of a file by name. Raises GSplatLocError for a damaged file."""
    with decoding("localized queries, a JSON object a line", path, "localize again"):
        lines = [json.loads(line) for line in _lines(path)]
        return {line["name"]: _outcome(line) for line in lines}


def _outcome(line: dict[str, Any]) -> Outcome:
    pose, has_truth = line["cam_from_world"], line["true_cam_from_world"] is not None
    errors = [line[name] for name in ("translation_error_m", "rotation_error_deg")]
    known = [(math.inf if error is None else float(error)) if has_truth else None for error in errors]
    return Outcome(
        Status(line["status"]), None if pose is None else _pose(pose), known[0], known[1], float(line["ms"])
    )


def _query(line: dict[str, Any], number: int = 0) -> LocalizedQuery:
    covariance = line["covariance"]
    stages = {name: stage["cam_from_world"] for name, stage in line.get("stages", {}).items()}
    return LocalizedQuery(
        line["name"],
        Status(line["status"]),
        Camera(line["width"], line["height"], *line["intrinsics"]),
        _pose(line["cam_from_world"]),
        None if covariance is None else torch.tensor(covariance, dtype=torch.float64).reshape(6, 6),
        line["expected_translation_m"],
        line["expected_rotation_deg"],
        line["translation_error_m"],
        None if line["image"] is None else Path(line["image"]),
        {name: _pose(numbers) for name, numbers in stages.items() if numbers is not None},
        line=number,
    )


def _pose(numbers: Any) -> Tensor:
    pose = torch.tensor(numbers, dtype=torch.float64)
    if pose.shape != (4, 4) or not pose.isfinite().all():
        raise ValueError(f"a pose of shape {list(pose.shape)}")
    return pose


def _numbers(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.tolist()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
