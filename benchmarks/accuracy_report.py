#!/usr/bin/env python3
"""docs/results.md and its plots from what benchmarks/accuracy.py measured.

python -m benchmarks.accuracy_report --results benchmarks/results/accuracy.json [MORE.json]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.accuracy_plots import write_plots
from benchmarks.machine import short_commit
from benchmarks.suite_report import put_between_marks
from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

ROOT = Path(__file__).resolve().parents[1]

BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
_RECALLS = ("5cm_5deg", "2cm_2deg", "1cm_1deg")

Result = dict[str, Any]  # of one scene, as in the JSON


@dataclass(frozen=True)
class ReportArguments:
    """What to read and where to write."""

    results: tuple[Path, ...] = (ROOT / "benchmarks" / "results" / "accuracy.json",)
    page: Path = ROOT / "docs" / "results.md"  # its text between the marks is replaced


def write_page(page: Path, files: Sequence[Path]) -> None:
    """Put the tables between the page's marks and the plots into images/ beside it.

    Where a scene is in several files the last one counts.
    """
    if not files:
        raise GSplatLocError("expected results to write about, found none: see --results")
    contents = [read_json(path) for path in files]
    results = list({r["scene"]: r for content in contents for r in content["results"]}.values())
    images = write_plots(results, page.parent / "images")
    pictures = [f"![{title}](images/{path.name})\n" for path, title in images]
    heads = [_head(content) for content in contents]
    put_between_marks(page, "\n".join([*heads, tables(results), *pictures]), BEGIN, END)


def tables(results: Sequence[Result]) -> str:
    """All tables, as Markdown."""
    parts = [
        ("Beside the sparse baseline", comparison_table(results)),
        ("Maps", map_table(results)),
        ("What a stage does to its query", stage_table(results)),
        ("Other places", rejection_table(results)),
        ("The prior, one choice changed at a time", ablation_table(results)),
        ("Stated and found errors", calibration_table(results)),
    ]
    return "\n".join(f"## {title}\n\n{text}" for title, text in parts if text)


def comparison_table(results: Sequence[Result]) -> str:
    """One row per scene and method: accuracy, bytes and milliseconds of a whole query."""
    rows = []
    for result in results:
        chains = result["chains"]
        rows += [_prior_row(result, chains[0])] if chains else []
        rows += [_chain_row(result, chain) for chain in chains]
        rows += [
            [result["scene"], f"sparse baseline, {kind}", *_accuracy(result, figures),
             _fraction(figures["failed"], figures["count"]), _number(figures["total_median_ms"], 0),
             _megabytes(figures["map_bytes"])]
            for kind, figures in result["baselines"].items()
        ]  # fmt: skip
    header = ["scene", "method", "median error", "5 cm 5°", "2 cm 2°", "1 cm 1°", "failed", "ms", "map"]
    return _table(header, rows)


def _prior_row(result: Result, chain: Result) -> list[str]:
    initial = chain["stages"]["initial"]
    cost = (chain["features_median_ms"] or 0) + (initial["median_ms"] or 0)
    return [result["scene"], "**ours, prior**", *_accuracy(result, initial),
            _fraction(initial["failed"], chain["count"]), _number(cost, 0),
            _megabytes(result["bytes"]["landmarks"])]  # fmt: skip


def _chain_row(result: Result, chain: Result) -> list[str]:
    size = result["bytes"]["initial+lm" if chain["chain"] == "initial+lm" else "everything"]
    name = f"ours, {chain['chain'].replace('+', ' + ')}"
    return [result["scene"], f"**{name}**" if chain["chain"] == "initial+lm" else name,
            *_accuracy(result, chain["final"]), _fraction(chain["failed"], chain["count"]),
            _number(chain["total_median_ms"], 0), _megabytes(size)]  # fmt: skip


def map_table(results: Sequence[Result]) -> str:
    """Bytes of every map, apart, and what it took to make it."""
    header = ["scene", "landmarks", "with what lm looks at", "with descriptors", "Gaussians", "mapping",
              "PSNR held out", "depth held out"]  # fmt: skip
    rows = []
    for result in results:
        size, mapping = result["bytes"], result["mapping"]
        made, held_out = "–", mapping["held_out"]
        if mapping["seconds"] is not None:
            made = f"{mapping['seconds'] / 60:.1f} min, {mapping['peak_bytes'] / 1e9:.1f} GB"
        quality = "–" if held_out is None else f"{held_out['psnr']:.1f} dB"
        sizes = [_megabytes(size[name]) for name in ("landmarks", "initial+lm", "everything")]
        rows.append(
            [result["scene"], *sizes, f"{size['gaussians']:,}", made, quality, _depth(result, held_out or {})]
        )
    return _table(header, rows)


def _depth(result: Result, held_out: Result) -> str:
    """Median distance from measured depth, with the share within 2 % of it where runs told it."""
    error, share = held_out.get("depth_error_m"), held_out.get("depth_within_2")
    if error is None or not result["metric"]:
        return "–"
    return f"{100 * error:.1f} cm" + ("" if share is None else f", {_percent(share)} within 2 %")


def stage_table(results: Sequence[Result]) -> str:
    """Milliseconds of each stage and the share of queries that it leaves further off than the prior."""
    header = ["scene", "chain", "stage", "ms", "accepted", "further off than the prior", "clearly so"]
    rows = []
    for result in results:
        decoding = [result["scene"], "none", "decoding (not counted)", _number(result["decode_median_ms"], 0)]
        rows.append([*decoding, "–", "–", "–"])
        for chain in result["chains"]:
            features = [result["scene"], chain["chain"], "features", _number(chain["features_median_ms"], 0)]
            rows.append([*features, "–", "–", "–"])
            for name, stage in chain["stages"].items():
                share = chain["degraded"].get(name)
                shares = (
                    ["–", "–"] if share is None else [_percent(share["at_all"]), _percent(share["clearly"])]
                )
                accepted = "–" if share is None else _fraction(stage["improved"], chain["count"])
                rows.append([result["scene"], chain["chain"], name, _number(stage["median_ms"], 0), accepted,
                             *shares])  # fmt: skip
    return _table(header, rows) + '\n"Clearly": by more than a quarter of the prior\'s median error.\n'


def rejection_table(results: Sequence[Result]) -> str:
    """How many photos of other scenes were taken for this one."""
    header = ["scene", "photos of other scenes", "accepted", "accepted, focal length unknown"]
    rows = [
        [r["scene"], *(str(r["rejection"][key]) for key in ("photos", "accepted", "accepted_unknown_focal"))]
        for r in results
    ]
    return _table(header, rows)


def ablation_table(results: Sequence[Result]) -> str:
    """Accuracy, bytes and milliseconds of every variant of the prior."""
    header = [
        "scene",
        "variant",
        "median error",
        "5 cm 5°",
        "2 cm 2°",
        "1 cm 1°",
        "failed",
        "ms",
        "landmarks",
    ]
    rows = [
        [r["scene"], row["label"], *_accuracy(r, row), str(row["failed"]), _number(row["ms"], 0),
         f"{_megabytes(row['bytes'])}"]
        for r in results for row in r["ablation"]
    ]  # fmt: skip
    return _table(header, rows)


def calibration_table(results: Sequence[Result]) -> str:
    """Bins of as many queries each: what they state and what was found."""
    header = ["scene", "stage", "queries", "stated", "found"]
    rows = []
    for result in results:
        for name, parts in _calibrations(result):
            for part in parts:
                errors = [
                    _error(result, part[f"{kind}_translation_m"], part[f"{kind}_rotation_deg"])
                    for kind in ("stated", "found")
                ]
                rows.append([result["scene"], name, str(part["count"]), *errors])
    return (
        _table(header, rows)
        + "\nFound: median of the bin, times 1.126 as for the length of a normal vector.\n"
    )


def _calibrations(result: Result) -> Iterable[tuple[str, list[Result]]]:
    """Of the prior and of the last stage of the first chain: (stage, bins)."""
    return list(result["chains"][0]["calibration"].items()) if result["chains"] else []


def _head(content: Result) -> str:
    machine = content["machine"]
    commit = short_commit(machine.get("commit"))
    where = f"{machine['cores']} cores of {machine['name']}, {machine['threads']} threads"
    return f"Made by `{content['command'].strip()}` on {where}; built on commit {commit}.\n"


def _accuracy(result: Result, figures: Result) -> list[str]:
    """Median error and recalls, the latter only where metres are known."""
    recalls = [_percent(figures["recall"][key]) if result["metric"] else "–" for key in _RECALLS]
    return [_error(result, figures["median_translation_m"], figures["median_rotation_deg"]), *recalls]


def _error(result: Result, translation: float | None, rotation: float | None) -> str:
    """`0.50 cm / 0.160°` where the scene is metric, else `0.0400 % / 0.050°` of the path's extent."""
    if translation is None or rotation is None:
        return "failed"
    if result["metric"]:
        return f"{100 * translation:.3f} cm / {rotation:.3f}°"
    return f"{100 * translation / result['extent']:.4f} % / {rotation:.3f}°"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Nothing without rows."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n" if rows else ""


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _fraction(part: int, whole: int) -> str:
    return f"{part}/{whole}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def main() -> None:
    arguments = tyro.cli(ReportArguments, description=__doc__)
    write_page(arguments.page, arguments.results)


if __name__ == "__main__":
    run_script(main)
