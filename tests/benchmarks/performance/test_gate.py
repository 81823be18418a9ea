"""The gate fails on regressions, and on nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.measuring import Figure
from benchmarks.performance import gate
from benchmarks.performance.gate import Machine
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

HERE = Machine("AMD EPYC", "avx512", "AVX512")
FIGURE = Figure(median_ms=2.0, least_ms=1.5, paired_gflop=0.4, least_gflop=0.3, rounds=9)


def baseline(**figures: Figure) -> dict[str, Any]:
    return {"machine": vars(HERE), "quick": gate.merged([figures])}


def scaled(paired: float, least: float) -> Figure:
    return replace(FIGURE, paired_gflop=paired * FIGURE.paired_gflop, least_gflop=least * FIGURE.least_gflop)


def growth(paired: float, least: float) -> float:
    (verdict,) = gate.compare({"forward": scaled(paired, least)}, baseline(forward=FIGURE))
    return verdict.growth


def test_a_slower_kernel_moves_both_statistics_and_is_beyond_the_tolerance() -> None:
    assert growth(1.4, 1.3) == pytest.approx(1.3)


def test_a_busy_machine_that_moves_only_one_statistic_is_not_a_regression() -> None:
    assert growth(1.02, 1.9) < gate.TOLERANCE
    assert growth(1.9, 1.02) < gate.TOLERANCE


def test_what_is_slow_once_is_measured_again_and_nothing_else_is() -> None:
    asked: list[Sequence[str] | None] = []

    def measure(names: Sequence[str] | None) -> Mapping[str, Figure]:
        asked.append(names)
        if names is None:
            return {"forward": scaled(2, 2), "backward": FIGURE}
        return {"forward": FIGURE}

    verdicts = gate.judge(measure, baseline(forward=FIGURE, backward=FIGURE), gate.TOLERANCE)
    assert asked == [None, ["forward"]]
    gate.check(verdicts, gate.TOLERANCE)


def test_what_is_slow_every_time_is_a_regression_that_names_the_figure() -> None:
    attempts = []

    def measure(names: Sequence[str] | None) -> Mapping[str, Figure]:
        attempts.append(names)
        return {"forward": scaled(1.5, 1.4)}

    verdicts = gate.judge(measure, baseline(forward=FIGURE), gate.TOLERANCE)
    assert len(attempts) == gate.ATTEMPTS
    with pytest.raises(GSplatLocError, match=r"the worst 1\.40 times \(forward\)"):
        gate.check(verdicts, gate.TOLERANCE)


def test_a_figure_without_a_baseline_says_how_to_record_one() -> None:
    with pytest.raises(GSplatLocError, match="benchmarks gate --record"):
        gate.compare({"new": FIGURE}, baseline(forward=FIGURE))


@pytest.mark.parametrize(
    ("machine", "tolerance"),
    [
        (HERE, gate.TOLERANCE),
        (replace(HERE, processor="Xeon"), gate.OTHER_TOLERANCE),
        (replace(HERE, isa="avx2"), None),
        (replace(HERE, torch_isa="AVX2"), None),
    ],
)
def test_the_tolerance_depends_on_the_machine(machine: Machine, tolerance: float | None) -> None:
    assert gate.tolerance_for(machine, baseline(forward=FIGURE)) == tolerance


def test_the_baseline_is_the_median_over_passes() -> None:
    passes = [{"forward": scaled(factor, factor)} for factor in (1.0, 3.0, 1.1)]
    merged = gate.merged(passes)["forward"]
    assert merged["paired_gflop"] == pytest.approx(1.1 * FIGURE.paired_gflop)
    assert merged["least_gflop"] == pytest.approx(1.1 * FIGURE.least_gflop)


def test_the_committed_baseline_has_every_probe(tmp_path: Path) -> None:
    known = {name.rpartition(": ")[0] for name in read_json(gate.BASELINE)["quick"]}
    assert known == {probe.name for probe in gate.gate_probes(tmp_path)}
