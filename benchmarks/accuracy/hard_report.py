"""The table of the benchmark of hard queries."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT
from benchmarks.harness.pages import NONE, error_text, number, percent, publish, table
from benchmarks.harness.record import Row, origin_line

_FAR = {"2x nearest": (1.5, 3.0), "4x nearest": (3.0, float("inf"))}  # held-out views by that ratio
_GROSS = 0.25, 5.0  # metres, degrees: an accepted pose off by more is a false one
_STATED = 3.0  # times the stated error that an accepted pose may be off


def publish_hard(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table at `hard` below `root`."""
    return publish({"hard": f"{origin_line(rows)}\n\n{hard_table(rows)}"}, root)


def columns(queries: Sequence[Row]) -> dict[str, list[Any]]:
    """The queries of a case as lists, one for each figure, so that the file of results is small."""
    return {key: [query[key] for query in queries] for key in (queries[0] if queries else ())}


def queries_of(row: Row) -> list[Row]:
    """The queries of a row, of which each figure is a list."""
    found = row["queries"]
    return [dict(zip(found, figures, strict=True)) for figures in zip(*found.values(), strict=True)]


def hard_table(rows: Sequence[Row]) -> str:
    """One row for each scene, case and method, and one for each method over everything.

    Subsets by distance have a row only for methods that were run on all cases of the scene which they are of.
    """
    found: dict[tuple[str, str, str], list[Row]] = {}
    sources = _sources_of_far(rows)
    for row in rows:
        scene, case, method, queries = row["scene"], row["case"], row["method"], queries_of(row)
        found.setdefault((scene, case, method), []).extend(queries)
        every = {source for (name, _), cases in sources.items() if name == scene for source in cases}
        for label, (low, high) in _FAR.items():
            if case in every and sources[scene, method] == every:
                far = [query for query in queries if low <= query["ratio"] < high]
                found.setdefault((scene, label, method), []).extend(far)
        found.setdefault(("all", "all", method), []).extend(
            {**query, "foreign": case == "foreign"} for query in queries
        )
    header = ["scene", "case", "method", "queries", "10 cm 5°", "5 cm 5°", "accepted", "falsely", "median",
              "within 3 x stated", "CPU ms"]  # fmt: skip
    order = sorted(found, key=lambda key: (key[0] == "all", key[0]))  # stable: cases as they were run
    text = table(header, [[*key, *_cells(found[key], key[1] == "foreign")] for key in order if found[key]])
    return text and text + (
        "\n\nThe rows 2x and 4x nearest are subsets of plain and stretch*, whose rows count them too."
        " They are left out for methods that were not run on all of these cases."
        " 10 cm 5° and 5 cm 5°: share of the queries whose pose is within both limits, whatever its status."
        " Accepted: poses with status ok. Falsely: off by more than 25 cm or 5°, or of a foreign image."
        " Median: of the errors of all poses, a missing pose counting as infinite; – is an infinite median."
        " Within 3 x stated: accepted poses whose position and rotation both are; – where none is stated."
        " Of foreign images, which have no true pose, the shares and the median are –."
        " In scenes without metres, a length of 10 m stands for the extent of the path."
        " All: over the cases that a method was run on, which differ, without the subsets."
    )


def _sources_of_far(rows: Sequence[Row]) -> dict[tuple[str, str], set[str]]:
    """The cases with queries that each (scene, method) was run on and that the subsets by distance are of."""
    sources: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        cases = sources.setdefault((row["scene"], row["method"]), set())
        if queries_of(row) and (row["case"] == "plain" or row["case"].startswith("stretch")):
            cases.add(row["case"])
    return sources


def _cells(queries: Sequence[Row], foreign: bool) -> list[str]:
    own = [query for query in queries if not (foreign or query.get("foreign"))]
    accepted = [query for query in own if query["ok"]]
    false = sum(query["ok"] for query in queries) - len(accepted)
    false += sum(query["metres"] > _GROSS[0] or query["degrees"] > _GROSS[1] for query in accepted)
    near = [percent(_share(_within(query, limit, 5.0) for query in own)) for limit in (0.1, 0.05)]
    stated = [query for query in accepted if query.get("stated_m") is not None]
    kept = _share(_within(query, _STATED * query["stated_m"], _STATED * query["stated_deg"])
                  for query in stated)  # fmt: skip
    median = [np.median([_known(query[key]) for query in own] or [np.inf]) for key in ("metres", "degrees")]
    total = sum(query["ok"] for query in queries)
    return [str(len(queries)), *near, str(total), str(false),
            error_text(*median, digits=2) if np.isfinite(median).all() else NONE,
            percent(kept), number(float(np.median([query["ms"] for query in queries])))]  # fmt: skip


def _within(query: Row, metres: float, degrees: float) -> bool:
    return bool(_known(query["metres"]) < metres and _known(query["degrees"]) < degrees)


def _known(value: float | None) -> float:
    """An error as JSON holds it: infinite ones are None."""
    return float("inf") if value is None else value


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
