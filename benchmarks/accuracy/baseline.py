"""Run the sparse baseline's script and keep what it does not write: the error of every query.

    python -m benchmarks.accuracy.baseline sparse_baseline.py SCENE --json OUT.json [its own flags]

OUT.json gets `errors`, a list of [metres, degrees], null where there is no pose, and `cpu_ms`, one a query.
"""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gsplatloc.utils.io import read_json, write_json


def load_script(path: Path) -> ModuleType:
    """A script as a module, its main() not yet run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python script: {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pose_error(query: dict[str, Any], pose: Any) -> list[float | None]:
    """[metres, degrees] of the script's pose of a query."""
    if pose is None:
        return [None, None]
    distance = np.linalg.norm(-pose.R.T @ pose.t - query["center"])
    cosine = np.clip((np.trace(pose.R @ query["R"].T) - 1) / 2, -1, 1)
    return [float(distance), float(np.degrees(np.arccos(cosine)))]


def main() -> None:
    script = load_script(Path(sys.argv[1]))
    errors, spent, begin = [], [], 0.0
    extract, localize = script.extract, script.localize

    def extracted(*arguments: Any) -> None:  # a query's features come right before its pose
        nonlocal begin
        begin = time.process_time()
        extract(*arguments)

    def recorded(query: dict[str, Any], *arguments: Any) -> Any:
        pose = localize(query, *arguments)
        spent.append(1000 * (time.process_time() - begin))
        errors.append(pose_error(query, pose))
        return pose

    vars(script).update(extract=extracted, localize=recorded)
    sys.argv = sys.argv[1:]
    script.main()
    output = Path(sys.argv[sys.argv.index("--json") + 1])
    write_json(output, {**read_json(output), "errors": errors, "cpu_ms": spent})


if __name__ == "__main__":
    main()
