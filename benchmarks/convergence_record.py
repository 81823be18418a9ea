"""What benchmarks/convergence.py has measured so far, written after every photo: a stop loses nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.convergence_starts import LEVELS
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json

_MAX_ERROR_M, _MAX_ERROR_DEG = 0.05, 5.0  # of a success

Row = dict[str, Any]  # one refinement
Part = Literal["runs", "prior_runs", "retrieval_runs"]  # from starts, without any, from retrieved views


class Record:
    """The file of results, one entry for each scene."""

    def __init__(self, path: Path, facts: dict[str, Any], resume: bool = False):
        """`facts` stand at the head of the file; `resume` keeps what it holds already."""
        self._path = path
        known = read_json(path)["scenes"] if resume and path.is_file() else []
        self._content = facts | {"scenes": known}

    @property
    def scenes(self) -> list[dict[str, Any]]:
        return self._content["scenes"]

    @property
    def commit(self) -> str | None:
        return self._content["machine"]["commit"]

    def scene(self, name: str, settings: dict[str, Any]) -> "SceneRecord":
        """The entry of a scene; a `GSplatLocError` where it was measured with other settings."""
        for entry in self.scenes:
            if entry["scene"] == name and entry.get("settings") != settings:
                raise GSplatLocError(
                    f"expected {self._path} to hold figures of {name} with {settings}, found"
                    f" {entry.get('settings')}: leave out --resume, or give another --results"
                )
        found = [entry for entry in self.scenes if entry["scene"] == name]
        if not found:
            parts: dict[str, Any] = {"runs": [], "prior_runs": [], "retrieval_runs": []}
            found = [{"scene": name, "settings": settings, "levels": list(LEVELS), **parts}]
            self.scenes.append(found[0])
        return SceneRecord(self, found[0])

    def save(self) -> None:
        """Write all of it, atomically."""
        write_json(self._path, self._content)


class SceneRecord:
    """The rows of one scene."""

    def __init__(self, record: Record, entry: dict[str, Any]):
        self._record, self._entry = record, entry

    def has(self, part: Part, **facts: Any) -> bool:
        """Whether there is a row of which all `facts` are true."""
        return any(all(row[key] == value for key, value in facts.items()) for row in self._entry[part])

    def add(self, part: Part, rows: Sequence[Row]) -> None:
        """Keep rows, with the commit that they were measured at, and write them."""
        self._entry[part].extend(row | {"commit": self._record.commit} for row in rows)
        self._record.save()


def succeeded(row: Row) -> bool:
    """Within 5 cm and 5 degrees; a file has None for the error of a pose that was not found."""
    metres, degrees = row["error_m"], row["error_deg"]
    return metres is not None and metres < _MAX_ERROR_M and degrees < _MAX_ERROR_DEG


def share(rows: Sequence[Row]) -> float | None:
    """Of successes; None of nothing."""
    return sum(succeeded(row) for row in rows) / len(rows) if rows else None


def summary(rows: Sequence[Row]) -> dict[str, float | None]:
    """Median errors of the successes, and median cost of all."""
    good = [row for row in rows if succeeded(row)]
    figures = {f"median_{key}": middle([row[key] for row in good]) for key in ("error_m", "error_deg")}
    return figures | {f"median_{key}": middle([row[key] for row in rows]) for key in ("ms", "cpu_ms")}


def middle(values: Sequence[float]) -> float | None:
    return torch.tensor(values, dtype=torch.float64).quantile(0.5).item() if values else None


def by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each method, in the order in which methods appear."""
    return {
        name: [row for row in rows if row["method"] == name]
        for name in dict.fromkeys(row["method"] for row in rows)
    }


def per_level(rows: Sequence[Row]) -> list[float | None]:
    """Success at every level of overlap."""
    return [share([row for row in rows if row["level"] == level]) for level in range(len(LEVELS))]


def photos(rows: Sequence[Row]) -> int:
    return len({row["photo"] for row in rows})
