"""Times of everything, and the GFLOP of torch.matmul in the same time.

`--record` makes this machine's times the committed ones and writes the documentation's tables and plot: for a
quiet machine. The gate's own baseline is recorded by `python -m benchmarks gate --record`.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest.mock import patch

import torch
import tyro

import gsplatloc_kernels as native
from benchmarks import DATA, OUTPUT, ROOT
from benchmarks.harness.measuring import Lap, Probe, Protocol, Yardstick, has_split, map_scene, measure, timed
from benchmarks.harness.results import NONE, publish, table
from benchmarks.performance import rasterizer, training
from benchmarks.performance.gate import update_baseline
from benchmarks.performance.rasterizer import measure_growth, plot_growth
from benchmarks.performance.training import ITERATION, PARTS
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import INITIAL
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.map_config import read_config
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from gsplatloc.utils.machine import describe, short_commit

Part = Literal["rasterizer", "training", "mapping", "query", "growth"]
Add = Callable[..., dict[str, Any]]

_QUERIES = 15
QUERY = "query"  # the lap that holds the stages
_KITCHEN, _ROOM = "pgt_7scenes_redkitchen", "room"
_PRODUCTS = 30  # before and after: they cannot alternate with a child's work
_REST = "rest: activations, autograd, densification, Python"
Row = Mapping[str, float]  # a measuring.Figure as JSON


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
        publish_performance(result)


def measured(arguments: PerformanceArguments) -> dict[str, Any]:
    """Measure everything that was asked for, and print it."""
    protocol = Protocol(arguments.threads, arguments.rounds, seconds=30.0)
    facts = describe() | {"isa": native.isa(), "threads": arguments.threads}
    result: dict[str, Any] = {"machine": facts, "figures": {}}
    torch.set_num_threads(arguments.threads)

    def add(probes: Sequence[Probe], how: Protocol = protocol) -> dict[str, Any]:
        rows = {name: asdict(figure) for name, figure in measure(probes, how).items()}
        print("\n".join(line(name, row) for name, row in rows.items()), flush=True)
        result["figures"] |= rows
        return rows

    map_folder, source = arguments.map, None
    if {"mapping", "training"} & set(arguments.parts):
        source = scene_of(arguments.scene, arguments.data, arguments.output)
    if "mapping" in arguments.parts and source is not None:
        made = arguments.output / "map"
        result["mapping"] = measure_mapping(source, made, arguments.output, protocol)
        print(mapping_line(result["mapping"]))
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
        add([query_probe(map_folder)], Protocol(arguments.threads, _QUERIES))
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


def scene_of(wanted: Path | None, data: Path, work: Path) -> Path:
    """The scene to map: the one asked for, RedKitchen where it is here, else a synthetic room."""
    source = wanted or data / _KITCHEN
    if wanted is None and not source.is_dir():
        source = work / _ROOM
        if not (source / "test").is_dir():
            make_room(source, RoomOptions())
    return source


def measure_mapping(source: Path, made: Path, work: Path, protocol: Protocol) -> dict[str, Any]:
    """Seconds, peak memory and GFLOP of torch.matmul in the same time, with the preset for a CPU."""
    shutil.rmtree(made, ignore_errors=True)  # from a clean cache
    yardstick = Yardstick(protocol)
    seconds = [yardstick.product() for _ in range(_PRODUCTS)]
    cost = map_scene(source, made, work / "mapping.log", ["--quiet"])
    seconds += [yardstick.product() for _ in range(_PRODUCTS)]
    return {
        "scene": source.name, "seconds": cost.seconds, "peak_bytes": cost.peak_bytes,
        "gflop": cost.seconds / median(seconds) * yardstick.gflop,
    }  # fmt: skip


def query_probe(map_folder: Path) -> Probe:
    """The test images of a map's scene, one in each run, evenly over all of them."""
    config = read_config(map_folder)
    localizer = Localizer.load(map_folder)
    views = read_scene(config.source_path, config.scene).test
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0)).tolist()
    stages = {"features": (localizer.extractor, "extract"), INITIAL: (localizer.initial, "hypotheses")}
    stages |= {refiner.name: (refiner, "refine") for refiner in localizer.refiners}

    def localize(lap: Lap) -> None:
        view = views[order[0]]
        order.append(order.pop(0))
        image = view.load_image()
        with ExitStack() as stack:
            for name, (owner, method) in stages.items():
                stack.enter_context(patch.object(owner, method, timed(owner, method, lap, name)))
            with lap(QUERY):
                localizer.localize(image, view.camera)

    return Probe(f"query in {map_folder.name}", localize)


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
