#!/usr/bin/env python3
"""Everything that is timed, as milliseconds and as GFLOP of torch.matmul in the same time beside it.

    python -m benchmarks.suite --quick     one thread, a minute at most; fails on a regression of 25 %
    python -m benchmarks.suite             rasterizer, training, mapping, queries, growth
    python -m benchmarks.suite --record    both, and writes the baseline, docs/performance.md and its plot

The baseline is for a quiet machine to record. `make test` runs --quick.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import gsplatloc_kernels as native
from benchmarks import (
    suite_mapping,
    suite_query,
    suite_quick,
    suite_rasterizer,
    suite_report,
)
from benchmarks.machine import describe
from benchmarks.suite_growth import measure_growth, plot_growth
from benchmarks.suite_training import KINDS, SceneTraining, adam_probe, loss_probe
from benchmarks.yardstick import Probe, Protocol, measure
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json

ROOT = Path(__file__).resolve().parents[1]

Part = Literal["rasterizer", "training", "mapping", "query", "growth"]
PLOT = ROOT / "docs" / "images" / "growth.png"
PAGE = ROOT / "docs" / "performance.md"

_QUERIES = 15


@dataclass(frozen=True)
class SuiteArguments:
    """What to measure."""

    quick: bool = False  # only what the gate judges
    record: bool = False  # make this machine's figures the committed ones
    parts: tuple[Part, ...] = ("rasterizer", "training", "mapping", "query", "growth")
    map: Path | None = None  # a trained map: rendered and localized in; default: the one that mapping makes
    scene: Path | None = None  # mapped and trained on; default: RedKitchen in --data, else a synthetic room
    data: Path = suite_mapping.DATA  # folder of the data sets
    baseline_tool: Path | None = None  # sparse baseline's script; default: beside --data, in tools/
    threads: int = torch.get_num_threads()  # of everything but --quick
    rounds: int = 9  # measurements of each figure
    output: Path = ROOT / "output" / "suite"  # maps and logs


def full(arguments: SuiteArguments) -> None:
    """Measure everything that was asked for, print it and write it."""
    protocol = Protocol(arguments.threads, arguments.rounds, seconds=30.0)
    facts = describe(torch.device("cpu")) | {"isa": native.isa(), "threads": arguments.threads}
    result: dict[str, Any] = {"machine": facts, "figures": {}}
    torch.set_num_threads(arguments.threads)
    source, options = suite_mapping.scene_of(arguments.scene, arguments.data, arguments.output)
    map_folder = arguments.map
    if "mapping" in arguments.parts:
        made = arguments.output / "map"
        result["mapping"] = suite_mapping.measure_mapping(source, made, arguments.output, protocol)
        print(suite_report.mapping_lines(result)[0])
        map_folder = map_folder or made

    def add(probes: Sequence[Probe], how: Protocol = protocol) -> dict[str, Any]:
        rows = {name: asdict(figure) for name, figure in measure(probes, how).items()}
        print("\n".join(suite_report.line(name, row) for name, row in rows.items()), flush=True)
        result["figures"] |= rows
        return rows

    if "rasterizer" in arguments.parts:
        for name in ("cube-100k", "cube-1M", *([str(map_folder)] if map_folder else [])):
            setting = suite_rasterizer.setting_of(name, 640, 480, arguments.threads)
            for case in suite_rasterizer.CASES:
                add(suite_rasterizer.probes(setting, [case]))  # one copy of a million Gaussians at a time
    if "training" in arguments.parts:
        add_training(add, source, options, arguments)
    if "query" in arguments.parts:
        result |= add_query(add, map_folder, arguments)
    if "growth" in arguments.parts:
        result["growth"] = measure_growth(arguments.threads)
    write_json(arguments.output / "suite.json", result)
    if arguments.record:
        record(result)


def add_training(
    add: Callable[..., dict[str, Any]], source: Path, options: SceneOptions, arguments: SuiteArguments
) -> None:
    """The loss, Adam, and iterations with and without descriptors."""
    add([loss_probe(640, 480), adam_probe(60_000)])
    scene, how = read_scene(source, options), Protocol(arguments.threads, 40, seconds=60.0)
    for kind in KINDS:
        with SceneTraining(scene, arguments.output / "training", kind) as training:
            add([training.probe()], how)


def add_query(
    add: Callable[..., dict[str, Any]], map_folder: Path | None, arguments: SuiteArguments
) -> dict[str, Any]:
    """A query's stages, and the peer's time where its script is here."""
    if map_folder is None:
        raise GSplatLocError(
            "expected a map to localize in, found none: give --map, or add mapping to --parts"
        )
    probe = suite_query.query_probe(map_folder)
    rows = add([probe], Protocol(arguments.threads, _QUERIES))
    tool = arguments.baseline_tool or arguments.data.parent / "tools" / "sparse_baseline.py"
    if not tool.is_file():
        if arguments.baseline_tool:
            raise GSplatLocError(f"expected the sparse baseline's script at {tool}, found none")
        print(f"no peer: there is no {tool}")
        return {}
    ours = rows[f"{probe.name}: {suite_query.QUERY}"]["median_ms"]
    peer = suite_query.baseline_ms(map_folder, tool, arguments.output, sys.executable)
    print(f"sparse baseline: {peer:.1f} ms a query; ours {ours / peer:.2f} times as long")
    return {"peer": {"ours_ms": ours, "baseline_ms": peer}}


def record(result: Mapping[str, Any]) -> None:
    """Make these figures the committed ones."""
    suite_quick.update_baseline({"full": result})
    suite_report.put_between_marks(PAGE, suite_report.report(result))
    if "growth" in result:
        PLOT.parent.mkdir(exist_ok=True)
        plot_growth(result["growth"], result["machine"], PLOT)


def main() -> None:
    arguments = tyro.cli(SuiteArguments, description=__doc__, use_underscores=True)
    if arguments.quick or arguments.record:
        suite_quick.quick(arguments.record)
    if not arguments.quick:
        full(arguments)


if __name__ == "__main__":
    run_script(main)
