"""Results of queries as JSON, so that a run that was stopped goes on after them; every number keeps its bits.

Matches are left out: nothing that is written about a run needs them.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import decoding
from gsplatloc.utils.io import read_json, write_json

_PLAIN = ("inliers", "elapsed_ms", "distortion", "accepted")  # fields of an estimate that JSON has
_TENSORS = ("cam_from_world", "covariance", "information", "camera_covariance")


def save_results(path: Path, results: Sequence[QueryResult]) -> None:
    """Write the results to a JSON file, atomically."""
    write_json(path, [_packed(result) for result in results])


def load_results(path: Path) -> list[QueryResult]:
    """The results in a file of `save_results`; raises `GSplatLocError` for another file."""
    with decoding("results of queries", path, "delete the file and run again"):
        return [_unpacked(entry) for entry in read_json(path)]


def _packed(result: QueryResult) -> dict[str, Any]:
    found = result.localization
    return {
        "name": result.name,
        "reason": result.reason,
        "image": None if result.image is None else str(result.image),
        "truth": _numbers(result.truth),
        "features_ms": found.features_ms,
        "search_ms": found.search_ms,
        "verified": found.verified,
        "score": found.score,
        "stages": {name: _packed_estimate(estimate) for name, estimate in found.stages.items()},
    }


def _packed_estimate(estimate: PoseEstimate) -> dict[str, Any]:
    return {
        "status": str(estimate.status),
        "camera": asdict(estimate.camera),
        **{name: getattr(estimate, name) for name in _PLAIN},
        **{name: _numbers(getattr(estimate, name)) for name in _TENSORS},
    }


def _unpacked(entry: dict[str, Any]) -> QueryResult:
    stages = {name: _unpacked_estimate(values) for name, values in entry["stages"].items()}
    found = Localization(
        stages, entry["features_ms"], entry["verified"], entry["score"], search_ms=entry["search_ms"]
    )
    image = None if entry["image"] is None else Path(entry["image"])
    return QueryResult(entry["name"], found, _tensor(entry["truth"]), entry["reason"], image)


def _unpacked_estimate(values: dict[str, Any]) -> PoseEstimate:
    parts: dict[str, Any] = {name: values[name] for name in _PLAIN}
    parts |= {name: _tensor(values[name]) for name in _TENSORS}
    camera = Camera(**{field.name: values["camera"][field.name] for field in fields(Camera)})
    return PoseEstimate(Status(values["status"]), camera, **parts)


def _numbers(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.double().tolist()


def _tensor(numbers: Any) -> Tensor | None:
    # JSON has no infinite numbers and no NaN: `write_json` wrote null, which becomes NaN here.
    return None if numbers is None else torch.from_numpy(np.array(numbers, np.float64))
