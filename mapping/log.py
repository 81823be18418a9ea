"""training.jsonl: one JSON object per line, written during a run."""

import json
import math
from pathlib import Path
from typing import Any

from gsplatloc.utils.io import write_text, writing


class TrainingLog:
    """Appends to a map's training.jsonl; a resumed run first drops the lines that it is about to repeat."""

    def __init__(self, map_dir: Path, after: int = 0) -> None:
        """`after`: the iteration that the run resumes from, 0 for a new one."""
        self._path = map_dir / "training.jsonl"
        known = after and self._path.is_file()
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if known else []
        write_text(self._path, "".join(line + "\n" for line in lines if _iteration(line) <= after))

    def write(self, kind: str, iteration: int, **figures: Any) -> None:
        """Append a line; figures that are not finite become null."""
        entry = {"kind": kind, "iteration": iteration, **figures}
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")


def _iteration(line: str) -> float:
    """The iteration of a line; infinite for a truncated line."""
    try:
        return float(json.loads(line)["iteration"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return math.inf
