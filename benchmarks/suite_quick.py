"""The suite's quick part: what the gate judges, in seconds, on one thread."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import gsplatloc_kernels as native
from benchmarks import gate, suite_rasterizer
from benchmarks.machine import describe
from benchmarks.suite_training import PARTS, adam_probe, iteration_probe, loss_probe, static_trainer
from benchmarks.yardstick import Figure, Probe, Protocol, measure
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json, write_json

BASELINE = Path(__file__).resolve().parent / "results" / "suite-baseline.json"

_PROTOCOL = Protocol(threads=1, rounds=24, cpu_time=True, seconds=14.0)
_PASSES = 5  # over all probes, for a baseline


def quick_probes(folder: Path) -> list[Probe]:
    """What the gate judges: the kernels and a whole iteration, on inputs that fit into a cache."""
    setting = suite_rasterizer.setting_of("cube-20k", 320, 240, threads=1)
    # A feature map of 320x240 is 20 MB: its time would be that of memory, which neighbours share.
    small = suite_rasterizer.setting_of("cube-20k", 160, 120, threads=1)
    trainer = static_trainer(20_000, setting.camera, folder)
    training = [
        loss_probe(320, 240),
        adam_probe(2_000),
        iteration_probe("training, cube-20k, 320x240", trainer),
    ]
    rasterizer = suite_rasterizer.probes(setting, suite_rasterizer.SMALL)
    return [*rasterizer, *suite_rasterizer.probes(small, suite_rasterizer.LARGE), *training]


def quick(record: bool) -> None:
    """Measure the quick probes; judge them, or make them the baseline."""
    with tempfile.TemporaryDirectory() as folder:
        probes = quick_probes(Path(folder))

        def run(names: Sequence[str] | None) -> Mapping[str, Figure]:
            chosen = [probe for probe in probes if names is None or _has_lap(probe, names)]
            figures = measure(chosen, _PROTOCOL)
            return {name: figure for name, figure in figures.items() if _is_judged(name, names)}

        if record:
            figures = gate.merged([run(None) for _ in range(_PASSES)])
            update_baseline({"machine": asdict(this_machine()), "quick": figures})
            return
        judge_quick(run)


def _is_judged(name: str, names: Sequence[str] | None) -> bool:
    """Parts of an iteration are not: the kernels are judged on their own, and the rest is short."""
    return name.rpartition(": ")[2] not in PARTS if names is None else name in names


def _has_lap(probe: Probe, names: Sequence[str]) -> bool:
    return any(name.startswith(f"{probe.name}: ") for name in names)


def judge_quick(run: gate.Measure) -> None:
    """The gate; `GSplatLocError` on a regression."""
    if not BASELINE.is_file():
        raise GSplatLocError(
            f"expected a baseline in {BASELINE}, found none: record one with --quick --record"
        )
    start, baseline = time.perf_counter(), read_json(BASELINE)
    tolerance = gate.tolerance_for(this_machine(), baseline)
    verdicts = gate.judge(run, baseline, tolerance or float("inf"))
    for verdict in verdicts:
        print(f"{verdict.name:72}{verdict.gflop:8.3f} GFLOP{verdict.growth:7.2f} x baseline")
    seconds = time.perf_counter() - start
    if tolerance is None:
        print(f"not judged: the baseline is of another instruction set ({seconds:.0f} s)")
        return
    gate.check(verdicts, tolerance)
    print(f"no figure above {tolerance:g} x the baseline ({seconds:.0f} s)")


def this_machine() -> gate.Machine:
    facts = describe(torch.device("cpu"))
    return gate.Machine(facts["processor"], native.isa(), torch.backends.cpu.get_cpu_capability())


def update_baseline(parts: Mapping[str, Any]) -> None:
    known = read_json(BASELINE) if BASELINE.exists() else {}
    write_json(BASELINE, {**known, **parts})
    print(f"wrote {BASELINE}")
