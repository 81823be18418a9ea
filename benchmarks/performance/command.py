"""Times of everything, and the GFLOP of torch.matmul in the same time.

`--record` makes this machine's times the committed ones and writes the documentation's tables and plot: for a
quiet machine. The gate's own baseline is recorded by `python -m benchmarks gate --record`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import gsplatloc_kernels as native
from benchmarks.harness import DATA, OUTPUT
from benchmarks.harness.child import has_split
from benchmarks.harness.yardstick import Probe, Protocol, measure
from benchmarks.performance import pipeline, rasterizer, report, training
from benchmarks.performance.gate import update_baseline
from benchmarks.performance.growth import measure_growth
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from gsplatloc.utils.machine import describe

Part = Literal["rasterizer", "training", "mapping", "query", "growth"]
Add = Callable[..., dict[str, Any]]

_QUERIES = 15


@dataclass(frozen=True)
class PerformanceArguments:
    """What to time."""

    parts: tuple[Part, ...] = ("rasterizer", "training", "mapping", "query", "growth")  # what is timed
    scenes: tuple[str, ...] = ("cube-100k", "cube-1M")
    """what is rasterized, beside --map: cube-N, or folders of maps"""
    map: Path | None = None
    """a trained map to render and localize in; unset = the one that the part "mapping" makes"""
    scene: Path | None = None
    """what is mapped and trained on; unset = RedKitchen in --data, else a synthetic room"""
    data: Path = DATA  # folder of the data sets; default: $GSPLATLOC_DATA
    threads: int = torch.get_num_threads()  # threads of torch and of the rasterizer
    rounds: int = 9  # measurements of each time
    output: Path = OUTPUT / "performance"  # folder for maps and logs
    record: bool = False
    """make this machine's times the committed ones, and write the documentation's tables and plot"""


def main() -> None:
    arguments = tyro.cli(PerformanceArguments, description=__doc__)
    result = measured(arguments)
    write_json(arguments.output / "performance.json", result)
    if arguments.record:
        update_baseline({"full": result})
        report.publish_performance(result)


def measured(arguments: PerformanceArguments) -> dict[str, Any]:
    """Measure everything that was asked for, and print it."""
    protocol = Protocol(arguments.threads, arguments.rounds, seconds=30.0)
    facts = describe() | {"isa": native.isa(), "threads": arguments.threads}
    result: dict[str, Any] = {"machine": facts, "figures": {}}
    torch.set_num_threads(arguments.threads)

    def add(probes: Sequence[Probe], how: Protocol = protocol) -> dict[str, Any]:
        rows = {name: asdict(figure) for name, figure in measure(probes, how).items()}
        print("\n".join(report.line(name, row) for name, row in rows.items()), flush=True)
        result["figures"] |= rows
        return rows

    map_folder, source = arguments.map, None
    if {"mapping", "training"} & set(arguments.parts):
        source = pipeline.scene_of(arguments.scene, arguments.data, arguments.output)
    if "mapping" in arguments.parts and source is not None:
        made = arguments.output / "map"
        result["mapping"] = pipeline.measure_mapping(source, made, arguments.output, protocol)
        print(report.mapping_line(result["mapping"]))
        map_folder = map_folder or made
    if "rasterizer" in arguments.parts:
        for name in (*arguments.scenes, *([str(map_folder)] if map_folder else [])):
            scene = rasterizer.load_scene(name, 640, 480)
            for case in rasterizer.CASES:
                add([rasterizer.raster_probe(scene, case, arguments.threads)])  # one copy at a time
    if "training" in arguments.parts and source is not None:
        _add_training(add, source, arguments)
    if "query" in arguments.parts:
        if map_folder is None:
            raise GSplatLocError("expected a map to localize in, found none: give --map or map first")
        add([pipeline.query_probe(map_folder)], Protocol(arguments.threads, _QUERIES))
    if "growth" in arguments.parts:
        result["growth"] = measure_growth(arguments.threads)
    return result


def _add_training(add: Add, source: Path, arguments: PerformanceArguments) -> None:
    """The loss, Adam, and iterations with and without descriptors."""
    add([training.loss_probe(640, 480), training.adam_probe(60_000)])
    scene = read_scene(source, SceneOptions(eval=not has_split(source)))
    for kind in training.KINDS:
        with training.SceneTraining(scene, arguments.output / "training", kind) as probe:
            add([probe], Protocol(arguments.threads, 40, seconds=60.0))
