"""Whether the suite's quick figures are still as good as the committed ones.

A figure is the GFLOP of torch.matmul that fit into its time. It has regressed where *both* of its statistics
have grown beyond the tolerance: the median over pairs of neighbours, which a machine that is busy throughout
leaves alone, and the shortest time against the shortest product, which bursts leave alone. A slower kernel
moves both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.yardstick import Figure
from gsplatloc.utils.errors import GSplatLocError

TOLERANCE = 1.25
# On another processor the same code has other ratios: caches differ, and so do matrix libraries.
FOREIGN_TOLERANCE = 2.0
ATTEMPTS = 3  # a regression shows in every one of them
_STATISTICS = ("paired_gflop", "least_gflop")

Measure = Callable[[Sequence[str] | None], Mapping[str, Figure]]  # of the named figures; None = all


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
    baseline_gflop: float
    growth: float  # the smaller of the growths of the two statistics


def tolerance_for(machine: Machine, baseline: Mapping[str, Any]) -> float | None:
    """How much a figure may grow on this machine; None where the baseline says nothing about it."""
    then = Machine(**baseline["machine"])
    if (machine.isa, machine.torch_isa) != (then.isa, then.torch_isa):
        return None
    return TOLERANCE if machine.processor == then.processor else FOREIGN_TOLERANCE


def compare(figures: Mapping[str, Figure], baseline: Mapping[str, Any]) -> list[Verdict]:
    """Every figure beside the baseline's; raises `GSplatLocError` where it has none."""
    known: Mapping[str, Mapping[str, float]] = baseline["quick"]
    unknown = sorted(figures.keys() - known.keys())
    if unknown:
        raise GSplatLocError(
            f"expected '{unknown[0]}' in the baseline, found {len(known)} other figures:"
            " run `python -m benchmarks.suite --quick --record` on a quiet machine"
        )
    return [
        Verdict(name, figure.paired_gflop, known[name]["paired_gflop"], _growth(asdict(figure), known[name]))
        for name, figure in figures.items()
    ]


def _growth(now: Mapping[str, float], then: Mapping[str, float]) -> float:
    return min(now[statistic] / then[statistic] for statistic in _STATISTICS)


def judge(measure: Measure, baseline: Mapping[str, Any], tolerance: float) -> list[Verdict]:
    """The best verdict of each figure; those beyond the tolerance are measured `ATTEMPTS` times."""
    best = {verdict.name: verdict for verdict in compare(measure(None), baseline)}
    for _ in range(ATTEMPTS - 1):
        doubtful = [name for name, verdict in best.items() if verdict.growth > tolerance]
        if not doubtful:
            break
        for verdict in compare(measure(doubtful), baseline):
            if verdict.growth < best[verdict.name].growth:
                best[verdict.name] = verdict
    return list(best.values())


def check(verdicts: Sequence[Verdict], tolerance: float) -> None:
    """Raise `GSplatLocError` where a figure is beyond the tolerance."""
    worse = [verdict for verdict in verdicts if verdict.growth > tolerance]
    if worse:
        worst = max(worse, key=lambda verdict: verdict.growth)
        raise GSplatLocError(
            f"expected at most {tolerance:g} times the baseline's cost, found {len(worse)} figures beyond it,"
            f" the worst {worst.growth:.2f} times ({worst.name}): find what made it slower, or record a new"
            " baseline with `python -m benchmarks.suite --quick --record` and say why"
        )


def merged(passes: Sequence[Mapping[str, Figure]]) -> dict[str, dict[str, float]]:
    """The baseline's figures: the medians over several passes."""
    names = passes[0].keys()
    return {
        name: {
            statistic: sorted(asdict(figures[name])[statistic] for figures in passes)[len(passes) // 2]
            for statistic in (*_STATISTICS, "median_ms")
        }
        for name in names
    }
