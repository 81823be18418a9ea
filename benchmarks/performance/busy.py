"""A busy machine: training and queries beside other processes, by how OpenMP's threads wait for each other.

The fair share of a process with as many threads as there are cores, beside n processes of one thread that
always compute, is cores / (cores + n) of the machine. A factor of 1 is the time that this share would take.
Queries are the median of a room's test images, trainings are whole commands. For a machine that does nothing
else.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import tyro

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.harness.measuring import map_scene, run_gsplatloc
from benchmarks.harness.results import Record, Row, number, origin_line, publish, table
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.io import read_json

# How threads wait, by the variables of the environment; without any, gsplatloc decides by the load.
WAITING = {
    "by load": {},
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # as libgomp does by default
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
}
_TRAINING, _TWO, _QUERY = "training", "two trainings at once", "query"
_QUIET_ROUNDS = 5  # whose median is taken, alternated: differences of 2 % are looked for


@dataclass(frozen=True)
class BusyArguments:
    """What to measure."""

    competitors: tuple[int, ...] = (0, 1, 2, 4)
    """numbers of processes that compute beside it"""
    iterations: int = 200
    """training steps"""
    work: Path = OUTPUT / "busy"
    """folder of the room and its maps"""


def main() -> None:
    arguments = tyro.cli(BusyArguments, prog="python -m benchmarks busy", use_underscores=True)
    room = arguments.work / "room"
    if not (room / "test").is_dir():
        make_room(room, RoomOptions())
    cores, record = len(os.sched_getaffinity(0)), Record(RESULTS / "busy.json", keep="none")
    for count in sorted(arguments.competitors):
        kinds = (_TRAINING, _TWO, _QUERY) if count == 0 else (_TRAINING, _QUERY)
        for kind in kinds:
            seconds = measure(kind, arguments, count)
            log(str(record.put({"what": kind, "competitors": count}, {"seconds": seconds, "cores": cores})))
    publish_busy(record.rows)


def measure(kind: str, arguments: BusyArguments, competitors: int) -> dict[str, float]:
    """Seconds by the way of waiting, beside so many competitors."""
    rounds = _QUIET_ROUNDS if competitors == 0 and kind != _TWO else 1
    found: dict[str, list[float]] = {name: [] for name in WAITING}
    with competing(competitors):
        for _ in range(rounds):
            for name, variables in WAITING.items():
                others = {key: value for key, value in os.environ.items() if key not in WAITING["asleep"]}
                with patch.dict(os.environ, others | variables, clear=True):
                    found[name].append(_seconds(kind, arguments))
    return {name: median(values) for name, values in found.items()}


@contextmanager
def competing(count: int) -> Iterator[None]:
    """So many processes that compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _seconds(kind: str, arguments: BusyArguments) -> float:
    work, output = arguments.work, arguments.work / "map"
    if kind == _QUERY:
        run_gsplatloc(["localize", "-m", output, "--no_pictures"], work / "localize.log")
        return float(read_json(output / "localization" / "metrics.json")["total_median_ms"]) / 1000

    def train(number: int) -> float:
        target = output if number == 0 else work / "second map"
        shutil.rmtree(target, ignore_errors=True)
        flags = ["--iterations", arguments.iterations, "--early_stop", "0"]
        return map_scene(work / "room", target, target.with_suffix(".log"), flags).seconds

    count = 2 if kind == _TWO else 1
    with ThreadPoolExecutor(count) as pool:
        return max(pool.map(train, range(count)))


def publish_busy(rows: Sequence[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `busy` below `root`."""
    quiet = {row["what"]: row["seconds"]["by load"] for row in rows if row["competitors"] == 0}
    lines = []
    for row in sorted(rows, key=lambda row: (row["what"], row["competitors"])):
        what, competitors = row["what"], row["competitors"]
        alone = quiet[_TRAINING if what == _TWO else what]
        share = 2.0 if what == _TWO else 1 + competitors / row["cores"]
        cells = [f"{_duration(s)} ({s / alone / share:.2f} ×)" for s in row["seconds"].values()]
        lines.append((what, str(competitors), *cells))
    header = ("", "competitors", *(f"threads wait {name}" for name in WAITING))
    return publish({"busy": f"{table(header, lines)}\n\n{origin_line(rows)}"}, root)


def _duration(seconds: float) -> str:
    return number(seconds, 1, unit=" s") if seconds >= 1 else number(1000 * seconds, 1, unit=" ms")


if __name__ == "__main__":
    run_script(main)
