"""Results as JSON: one row per measurement, each with the commit and the machine that it was made on.

A row is a dictionary; a few of its items identify it. A file is written after every row, so that a run that
was stopped continues where it ended.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_text
from gsplatloc.utils.machine import describe, short_commit

Row = dict[str, Any]
# Which rows of an earlier run are not measured again: those of this commit, all, or none.
Keep = Literal["commit", "all", "none"]
_DIGITS = 5  # significant ones of every number


@dataclass(frozen=True)
class RecordArguments:
    """Which results are measured again, and whether the documentation is written."""

    keep: Keep = "commit"
    """rows in --results that are not measured again: those of this commit, all, or none"""
    publish: bool = True
    """write the documentation's tables and plots at the end"""


class Record:
    """The rows in a file of results."""

    def __init__(self, path: Path, keep: Keep = "commit"):
        self.path = path
        self.rows: list[Row] = read_rows(path) if path.is_file() else []
        self._origin = origin_of(describe())
        self._keep = keep
        self._written: list[int] = []  # ids of this run's rows

    def find(self, **key: Any) -> Row | None:
        """The row with these items that need not be measured again."""
        row = self._row(key)
        if row is None or self._keep == "all" or id(row) in self._written:
            return row
        return row if self._keep == "commit" and row["commit"] == self._origin["commit"] else None

    def put(self, key: Row, figures: Row) -> Row:
        """Add a row, in place of an earlier one with the same `key`, and write the file."""
        row = _plain(key | figures | self._origin)
        earlier = self._row(key)
        if earlier is None:
            self.rows.append(row)
        else:
            self.rows[next(i for i, known in enumerate(self.rows) if known is earlier)] = row
        self._written.append(id(row))
        write_rows(self.path, self.rows)
        return row

    def _row(self, key: Row) -> Row | None:
        wanted = _plain(key)
        return next(
            (row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())), None
        )


def origin_of(machine: Row) -> Row:
    """The commit and the machine that are stated in each row."""
    where = f"{_counted(machine['threads'], 'thread')} on {machine['name']}"
    digits, plus, _ = (machine["commit"] or "unknown").partition("+")
    return {"commit": digits[:10] + plus + ("changes" if plus else ""), "machine": where}


def origin_line(rows: Sequence[Row]) -> str:
    """One sentence for a page: the machines and commits of the rows."""
    found: dict[str, list[str]] = {}
    for row in rows:
        commits = found.setdefault(row["machine"], [])
        if short_commit(row["commit"]) not in commits:
            commits.append(short_commit(row["commit"]))
    parts = [f"{machine}, commit {' and '.join(commits)}" for machine, commits in found.items()]
    return f"Measured with {'; '.join(parts)}."


def read_rows(path: Path) -> list[Row]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise GSplatLocError(f"expected rows of results in {path}, found none: remove the file")
    return content["rows"]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One row a line."""
    lines = ",\n".join(json.dumps(_plain(row), allow_nan=False, ensure_ascii=False) for row in rows)
    write_text(path, f'{{"rows": [\n{lines}\n]}}\n')


def _plain(value: Any) -> Any:
    """The value as JSON holds it: numbers rounded, None for those not finite, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
