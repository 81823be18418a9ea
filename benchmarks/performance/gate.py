"""Fails if a kernel or a whole training iteration has become slower than its committed time.

Times are GFLOP of torch.matmul in the same CPU time of one thread. One has regressed where *both* of its
statistics have grown beyond the tolerance: the median over measurements, each against its neighbouring
products, which constant load leaves unchanged, and the shortest measurement against the shortest product,
which bursts of load leave unchanged. A slower kernel moves both. About 20 s.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro

import gsplatloc_kernels as native
from benchmarks import RESULTS
from benchmarks.harness.measuring import Figure, Probe, Protocol, measure
from benchmarks.performance import rasterizer, training
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json
from gsplatloc.utils.machine import describe

BASELINE = RESULTS / "suite-baseline.json"
TOLERANCE = 1.25
OTHER_TOLERANCE = 2.0  # on another processor: caches and matrix libraries differ
ATTEMPTS = 3  # a regression shows in every one of them
_PASSES = 5  # over all probes, for a baseline
_PROTOCOL = Protocol(threads=1, rounds=24, cpu_time=True, seconds=14.0)
_STATISTICS = ("paired_gflop", "least_gflop")

Measure = Callable[[Sequence[str] | None], Mapping[str, Figure]]  # of the named figures; None = all


@dataclass(frozen=True)
class GateArguments:
    """The timing gate."""

    record: bool = False  # make this machine's times the committed ones, in a commit that says why


@dataclass(frozen=True)
class Machine:
    """What ratios depend on beside the code."""

    processor: str
    isa: str  # of our kernels
    torch_isa: str  # of torch's


@dataclass(frozen=True)
class Verdict:
    """One figure beside the baseline's."""

    name: str
    gflop: float
    growth: float  # the smaller of the growths of the two statistics


def main() -> None:
    arguments = tyro.cli(GateArguments, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        probes = gate_probes(Path(folder))

        def run(names: Sequence[str] | None) -> Mapping[str, Figure]:
            chosen = [probe for probe in probes if names is None or _has_lap(probe, names)]
            return {name: found for name, found in measure(chosen, _PROTOCOL).items() if _judged(name, names)}

        if arguments.record:
            figures = merged([run(None) for _ in range(_PASSES)])
            update_baseline({"machine": asdict(this_machine()), "quick": figures})
        else:
            judge_all(run)


def gate_probes(folder: Path) -> list[Probe]:
    """The kernels and a whole iteration, on inputs that fit into a cache."""
    scene = rasterizer.load_scene("cube-20k", 320, 240)
    # A feature map of 320x240 is 20 MB: its time would be that of memory, which neighbours share.
    small = rasterizer.load_scene("cube-20k", 160, 120)
    full_size = rasterizer.CASES[3]
    cases = [case for case in rasterizer.CASES if case is not full_size]
    return [
        *(rasterizer.raster_probe(scene, case, 1) for case in cases),
        rasterizer.raster_probe(small, full_size, 1),
        training.loss_probe(320, 240),
        training.adam_probe(2_000),
        training.static_trainer(20_000, scene.camera, folder).probe("training, cube-20k, 320x240"),
    ]


def _judged(name: str, names: Sequence[str] | None) -> bool:
    """Parts of an iteration are not: the kernels are judged on their own, and the rest is short."""
    return name.rpartition(": ")[2] not in training.PARTS if names is None else name in names


def _has_lap(probe: Probe, names: Sequence[str]) -> bool:
    return any(name.startswith(f"{probe.name}: ") for name in names)


def judge_all(run: Measure) -> None:
    """Measure, print and judge; `GSplatLocError` on a regression."""
    start, baseline = time.perf_counter(), read_json(BASELINE)
    tolerance = tolerance_for(this_machine(), baseline)
    verdicts = judge(run, baseline, tolerance or float("inf"))
    for verdict in verdicts:
        print(f"{verdict.name:72}{verdict.gflop:8.3f} GFLOP{verdict.growth:7.2f} x baseline")
    seconds = time.perf_counter() - start
    if tolerance is None:
        print(f"not judged: the baseline is of another instruction set ({seconds:.0f} s)")
        return
    check(verdicts, tolerance)
    print(f"no figure above {tolerance:g} x the baseline ({seconds:.0f} s)")


def this_machine() -> Machine:
    return Machine(describe()["processor"], native.isa(), torch.backends.cpu.get_cpu_capability())


def tolerance_for(machine: Machine, baseline: Mapping[str, Any]) -> float | None:
    """How much a figure may grow on this machine; None if the baseline is of other instruction sets."""
    then = Machine(**baseline["machine"])
    if (machine.isa, machine.torch_isa) != (then.isa, then.torch_isa):
        return None
    return TOLERANCE if machine.processor == then.processor else OTHER_TOLERANCE


def compare(figures: Mapping[str, Figure], baseline: Mapping[str, Any]) -> list[Verdict]:
    """Every figure beside the baseline's; raises `GSplatLocError` where it has none."""
    known: Mapping[str, Mapping[str, float]] = baseline["quick"]
    unknown = sorted(figures.keys() - known.keys())
    if unknown:
        raise GSplatLocError(
            f"expected '{unknown[0]}' in the baseline, found {len(known)} other figures:"
            " run `python -m benchmarks gate --record` on a quiet machine"
        )
    return [
        Verdict(name, found.paired_gflop, min(asdict(found)[key] / known[name][key] for key in _STATISTICS))
        for name, found in figures.items()
    ]


def judge(measure: Measure, baseline: Mapping[str, Any], tolerance: float) -> list[Verdict]:
    """The best verdict of each figure; those beyond the tolerance are measured `ATTEMPTS` times."""
    best = {verdict.name: verdict for verdict in compare(measure(None), baseline)}
    for _ in range(ATTEMPTS - 1):
        doubtful = [name for name, verdict in best.items() if verdict.growth > tolerance]
        if not doubtful:
            break
        for verdict in compare(measure(doubtful), baseline):
            best[verdict.name] = min(best[verdict.name], verdict, key=lambda known: known.growth)
    return list(best.values())


def check(verdicts: Sequence[Verdict], tolerance: float) -> None:
    """Raise `GSplatLocError` where a figure is beyond the tolerance."""
    worse = [verdict for verdict in verdicts if verdict.growth > tolerance]
    if worse:
        worst = max(worse, key=lambda verdict: verdict.growth)
        raise GSplatLocError(
            f"expected at most {tolerance:g} times the baseline's cost, found {len(worse)} figures beyond it,"
            f" the worst {worst.growth:.2f} times ({worst.name}): find what made it slower, or record a new"
            " baseline with `python -m benchmarks gate --record` and say why"
        )


def merged(passes: Sequence[Mapping[str, Figure]]) -> dict[str, dict[str, float]]:
    """The baseline's figures: the medians over several passes."""
    statistics = (*_STATISTICS, "median_ms")
    return {
        name: {key: median(asdict(figures[name])[key] for figures in passes) for key in statistics}
        for name in passes[0]
    }


def update_baseline(parts: Mapping[str, Any]) -> None:
    known = read_json(BASELINE) if BASELINE.exists() else {}
    write_json(BASELINE, {**known, **parts})
    print(f"wrote {BASELINE}")
