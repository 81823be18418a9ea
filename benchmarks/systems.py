#!/usr/bin/env python3
"""The seed systems beside each other, in one command: measures them and writes the tables of docs/systems.md.

python -m benchmarks.systems --room output/demo/map --kitchen output/accuracy/pgt_7scenes_redkitchen/map
python -m benchmarks.systems --measure none        # only the page, from what was measured before

Each part is a benchmark of its own, with its defaults: convergence.py (GSLoc and all refinements of ours),
pose_refinement.py and exposure.py (GS-CPR) and rgbd.py (depth alignment, tracking). Figures stay in
benchmarks/results.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import convergence_report, exposure, pose_refinement, rgbd
from benchmarks.machine import short_commit
from benchmarks.suite_report import put_between_marks
from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

ROOT = Path(__file__).resolve().parents[1]

Part = Literal["convergence", "pose_refinement", "exposure", "rgbd"]
PARTS: tuple[Part, ...] = ("convergence", "pose_refinement", "exposure", "rgbd")


@dataclass(frozen=True)
class SystemsArguments:
    """What is measured, and where."""

    measure: tuple[Part | Literal["none"], ...] = PARTS  # in this order; none = write the page only
    room: Path = ROOT / "output" / "demo" / "map"  # map of the synthetic room, as `make demo` makes it
    kitchen: Path = ROOT / "output" / "accuracy" / "pgt_7scenes_redkitchen" / "map"  # as `make accuracy` does
    kitchen_act: Path = ROOT / "output" / "kitchen_act"  # the same by train.py --exposure_model act
    data: Path = ROOT.parent / "shared" / "data"  # folder of the data sets, for RGB-D
    results: Path = ROOT / "benchmarks" / "results"  # folder for the figures of each part
    page: Path = ROOT / "docs" / "systems.md"


def commands(arguments: SystemsArguments) -> dict[Part, list[str]]:
    """The command of each part."""
    kitchen = str(arguments.kitchen)
    return {
        "convergence": ["-m", "benchmarks.convergence", "--maps", str(arguments.room), kitchen, "--results"],
        "pose_refinement": [
            *("-m", "benchmarks.pose_refinement", "--map", kitchen),
            *("--timed", "--again", "--output"),
        ],
        "exposure": [
            *("-m", "benchmarks.exposure", "--plain", kitchen),
            *("--act", str(arguments.kitchen_act), "--output"),
        ],
        "rgbd": [
            *("-m", "benchmarks.rgbd", "--data", str(arguments.data)),
            *("--plot", str(arguments.page.parent / "images" / "rgbd-seams.png")),
            *("--published", "--timed", "--output"),
        ],
    }


TABLES: dict[Part, Callable[[dict[str, Any]], str]] = {
    "convergence": lambda found: convergence_report.write_tables(found["scenes"]),
    "pose_refinement": lambda found: pose_refinement.table(found["rows"]),
    "exposure": lambda found: exposure.table(found["rows"]),
    "rgbd": rgbd.tables,
}


def main() -> None:
    arguments = tyro.cli(SystemsArguments, description=__doc__, use_underscores=True)
    for part in PARTS:
        if part in arguments.measure:
            run(part, arguments)
    for part in PARTS:
        if (file := results_of(part, arguments)).is_file():
            marks = (f"<!-- {part}: {edge} -->" for edge in ("begin", "end"))
            put_between_marks(arguments.page, written(part, read_json(file)), *marks)


def run(part: Part, arguments: SystemsArguments) -> None:
    """One benchmark, its figures into its file."""
    act = "python train.py -s RedKitchen -m OUT --preset cpu --exposure_model act"
    maps = {arguments.room: "make demo", arguments.kitchen: "make accuracy", arguments.kitchen_act: act}
    for folder, command in maps.items():
        if str(folder) in commands(arguments)[part] and not folder.is_dir():
            raise GSplatLocError(
                f"expected a map in {folder}, found none: run `{command}`, or say where it is"
            )
    command = [sys.executable, *commands(arguments)[part], str(results_of(part, arguments))]
    print("\n$ " + " ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT).returncode:
        raise GSplatLocError(f"expected {part} to succeed, but it failed: see above")


def results_of(part: Part, arguments: SystemsArguments) -> Path:
    return arguments.results / f"{part}.json"


def written(part: Part, found: dict[str, Any]) -> str:
    """The tables of a part, under a line that says what they were measured with."""
    machine = found["machine"]
    if part == "pose_refinement":
        return f"{pose_refinement.caption(found)}\n\n{TABLES[part](found)}"
    cores = "1 core" if machine["threads"] == 1 else f"{machine['threads']} cores"
    commits = ", ".join(sorted({short_commit(commit) for commit in commits_of(found)}))
    head = f"Measured on {cores} of {machine['name']}, commit {commits}."
    return f"{head}\n\n{TABLES[part](found)}"


def commits_of(found: dict[str, Any]) -> list[str]:
    """Of the rows, where they need not be of one run; else of the file."""
    rows = [row for scene in found.get("scenes", []) for row in scene["runs"] + scene["retrieval_runs"]]
    return [row["commit"] for row in rows if "commit" in row] or [found["machine"]["commit"]]


if __name__ == "__main__":
    run_script(main)
