"""The tables and the plot of the performance benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.harness.pages import NONE, publish, table
from benchmarks.performance.growth import plot_growth
from benchmarks.performance.training import ITERATION, PARTS
from gsplatloc.utils.machine import short_commit

_REST = "rest: activations, autograd, densification, Python"

Row = Mapping[str, float]  # a yardstick.Figure as JSON


def publish_performance(full: Mapping[str, Any], root: Path = ROOT) -> list[Path]:
    """Write the tables, between the marks of `suite`, and the plot of growth below `root`."""
    if "growth" in full:
        plot_growth(full["growth"], full["machine"], root / "docs" / "images" / "growth.png")
    return publish({"suite": text(full)}, root)


def text(full: Mapping[str, Any]) -> str:
    machine, figures = full["machine"], full["figures"]
    rates = sorted(row["paired_gflop"] / row["median_ms"] for row in figures.values())
    head = (
        f"{machine['processor']}, {machine['threads']} threads, {machine['isa']}; torch.matmul beside the"
        f" measurements: {1e3 * rates[len(rates) // 2]:.0f} GFLOP/s."
        f" Commit {short_commit(machine.get('commit'))}."
    )
    blocks = [head, figures_table(figures), breakdown_table(figures)]
    blocks += [mapping_line(full["mapping"])] if "mapping" in full else []
    return "\n\n".join(block for block in blocks if block)


def line(name: str, row: Row) -> str:
    """One time for the console."""
    return f"{row['median_ms']:9.2f} ms {row['paired_gflop']:8.2f} GFLOP of sgemm   {name}"


def figures_table(figures: Mapping[str, Row]) -> str:
    """All times but those of the parts of iterations."""
    rows = [
        [name, f"{row['median_ms']:.2f} ms", f"{row['least_ms']:.2f} ms", f"{row['paired_gflop']:.2f}"]
        for name, row in figures.items()
        if name.rpartition(": ")[2] not in PARTS
    ]
    return table(["what", "median", "shortest", "GFLOP of sgemm in the median"], rows)


def breakdown_table(figures: Mapping[str, Row]) -> str:
    """The parts of an iteration's time, a column for each kind of iteration."""
    kinds = [name.removesuffix(f": {ITERATION}") for name in figures if name.endswith(f": {ITERATION}")]
    if not kinds:
        return ""
    whole = {kind: figures[f"{kind}: {ITERATION}"]["median_ms"] for kind in kinds}
    spent, rows = dict.fromkeys(kinds, 0.0), []
    for part in PARTS:
        cells = []
        for kind in kinds:
            row = figures.get(f"{kind}: {part}")
            spent[kind] += row["median_ms"] if row else 0.0
            cells.append(_share(row["median_ms"], whole[kind]) if row else NONE)
        rows.append([part, *cells])
    rows.append([_REST, *(_share(whole[kind] - spent[kind], whole[kind]) for kind in kinds)])
    rows.append(["**whole**", *(f"**{whole[kind]:.1f} ms**" for kind in kinds)])
    return table(["part of an iteration", *kinds], rows)


def _share(milliseconds: float, whole: float) -> str:
    return f"{milliseconds:.1f} ms ({100 * milliseconds / whole:.0f} %)"


def mapping_line(made: Mapping[str, Any]) -> str:
    return (
        f"Whole mapping of {made['scene']}: {made['seconds'] / 60:.1f} min,"
        f" {made['peak_bytes'] / 1e9:.2f} GB, {made['gflop'] / 1e3:.0f} TFLOP of sgemm."
    )
