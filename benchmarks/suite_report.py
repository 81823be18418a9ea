"""The suite's figures as Markdown, put between two marks in docs/performance.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import short_commit
from benchmarks.suite_training import ITERATION, PARTS
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text

BEGIN, END = "<!-- suite: begin -->", "<!-- suite: end -->"
_REST = "rest: activations, autograd, densification, Python"

Row = Mapping[str, float]  # a yardstick.Figure as JSON


def line(name: str, row: Row) -> str:
    """One figure for the console."""
    return f"{row['median_ms']:9.2f} ms {row['paired_gflop']:8.2f} GFLOP of sgemm   {name}"


def figures_table(figures: Mapping[str, Row]) -> list[str]:
    """What was measured, but for the parts of iterations."""
    lines = ["| what | median | shortest | GFLOP of sgemm in the median |", "| --- | --- | --- | --- |"]
    for name, row in figures.items():
        if name.rpartition(": ")[2] not in PARTS:
            cells = f"{row['median_ms']:.2f} ms | {row['least_ms']:.2f} ms | {row['paired_gflop']:.2f}"
            lines.append(f"| {name} | {cells} |")
    return lines


def breakdown_table(figures: Mapping[str, Row]) -> list[str]:
    """Where an iteration's time goes, a column for each kind of iteration."""
    kinds = [name.removesuffix(f": {ITERATION}") for name in figures if name.endswith(f": {ITERATION}")]
    if not kinds:
        return []
    lines = ["| part of an iteration | " + " | ".join(kinds) + " |", "|" + " --- |" * (len(kinds) + 1)]
    whole = {kind: figures[f"{kind}: {ITERATION}"]["median_ms"] for kind in kinds}
    spent = dict.fromkeys(kinds, 0.0)
    for part in PARTS:
        cells = []
        for kind in kinds:
            row = figures.get(f"{kind}: {part}")
            spent[kind] += row["median_ms"] if row else 0.0
            cells.append(_share(row["median_ms"], whole[kind]) if row else "–")
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    rest = [_share(whole[kind] - spent[kind], whole[kind]) for kind in kinds]
    total = [f"**{whole[kind]:.1f} ms**" for kind in kinds]
    return [*lines, f"| {_REST} | " + " | ".join(rest) + " |", "| **whole** | " + " | ".join(total) + " |"]


def _share(milliseconds: float, whole: float) -> str:
    return f"{milliseconds:.1f} ms ({100 * milliseconds / whole:.0f} %)"


def mapping_lines(full: Mapping[str, Any]) -> list[str]:
    """Whole mapping and the sparse baseline's queries, where they were measured."""
    lines = []
    if mapping := full.get("mapping"):
        lines.append(
            f"Whole mapping of {mapping['scene']}: {mapping['seconds'] / 60:.1f} min,"
            f" {mapping['peak_bytes'] / 1e9:.2f} GB, {mapping['gflop'] / 1e3:.0f} TFLOP of sgemm."
        )
    if peer := full.get("peer"):
        lines.append(
            f"A query takes {peer['ours_ms']:.0f} ms, the sparse baseline {peer['baseline_ms']:.0f} ms:"
            f" {peer['ours_ms'] / peer['baseline_ms']:.2f} times as long."
        )
    return lines


def report(full: Mapping[str, Any]) -> str:
    """Everything between the marks."""
    machine, figures = full["machine"], full["figures"]
    rate = sorted(row["paired_gflop"] / row["median_ms"] for row in figures.values())[len(figures) // 2] * 1e3
    head = (
        f"{machine['processor']}, {machine['threads']} threads, {machine['isa']}; torch.matmul beside the"
        f" measurements: {rate:.0f} GFLOP/s. Commit {short_commit(machine.get('commit'))}."
    )
    blocks = [[head], figures_table(figures), breakdown_table(figures), mapping_lines(full)]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def put_between_marks(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between the marks of a document; raises `GSplatLocError` where it has none."""
    found = path.read_text(encoding="utf-8")
    if found.count(begin) != 1 or found.count(end) != 1:
        raise GSplatLocError(f"expected one '{begin}' and one '{end}' in {path}: put them back")
    head, _, rest = found.partition(begin)
    tail = rest.partition(end)[2]
    write_text(path, f"{head}{begin}\n\n{text}\n{end}{tail}")
