"""One RGB-D sequence by one method: its trajectory and the errors of it."""

from typing import Any

from gsplatloc.reproduction.costs import measured
from gsplatloc.reproduction.methods import MethodName
from gsplatloc.reproduction.request import Request, Step
from gsplatloc.reproduction.scene_run import COSTS_NAME, RESULT_NAME
from gsplatloc.scene import SceneOptions
from gsplatloc.scene.export import find_ply
from gsplatloc.tracking.options import Method, TrackingOptions
from gsplatloc.tracking.run import track, write_result
from gsplatloc.tracking.sequence import read_sequence
from gsplatloc.utils.console import ProgressBar
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from gsplatloc.utils.machine import commit

TRACKERS: dict[MethodName, Method] = {"ours": "lm", "paper": "gsplatloc"}


def track_scene(request: Request, step: Step) -> bool:
    """Track the sequence and write its result; an interruption raises, and the sequence begins anew."""
    folder = request.folder(step.scene, step.method)
    options = TrackingOptions(TRACKERS[step.method])
    with measured(folder / COSTS_NAME, "tracking"):
        sequence = read_sequence(step.source, SceneOptions(resolution=1))
        if sequence.truth is None:
            raise GSplatLocError(f"expected a true trajectory in {step.source}, found none: restore it")
        with ProgressBar(len(sequence.views), f"{step.scene}: tracking", quiet=request.quiet) as bar:
            result = track(sequence, options, bar.advance)
        write_result(folder / "sequence", sequence, options, result)
    error = result.error
    row: dict[str, Any] = {
        "label": step.method,
        "count": len(result.trajectory),
        "failed": len(result.lost),
        "cm": None if error is None else 100 * error.ate_rmse_m,
        "deg": None if error is None else error.aae_deg,
        "recall": {},
    }
    size = find_ply(folder / "sequence").stat().st_size
    facts = {"mapping_images": len(sequence.views), "test_images": len(sequence.views), "map_bytes": size}
    times = {"sequence": 1000 * result.seconds / len(result.trajectory)}
    write_json(
        folder / RESULT_NAME, {"key": step.key, "commit": commit(), "rows": [row], "query_ms": times, **facts}
    )
    return True
