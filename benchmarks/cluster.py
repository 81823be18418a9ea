"""Ray on this machine: four scenes mapped, and their test images localized, on nodes of one core each.

The jobs are those of `gsplatloc reproduce --ray`: processes of one thread that tasks of Ray start. Both
numbers of nodes have a cluster of their own, and start with the same files in memory.
"""

import shutil
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import OUTPUT, RESULTS, ROOT
from benchmarks.harness.results import Record, Row, number, origin_line, publish, table
from gsplatloc.datasets.options import RoomOptions
from gsplatloc.datasets.room import make_room
from gsplatloc.reproduction.workers import Job, RayWorkers, last_error
from gsplatloc.utils.console import log, run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json

_MAPPING = ("--preset", "cpu", "--early_stop", "0", "--pyramid", "--init_max_points", "40000",
            "--max_gaussians", "40000", "--quiet")  # fmt: skip


@dataclass(frozen=True)
class ClusterArguments:
    """What to measure."""

    nodes: tuple[int, ...] = (1, 2)
    """numbers of nodes, of one core each"""
    scenes: int = 4
    """rooms, each of 60 mapping and 100 test images of 160 x 128"""
    iterations: int = 700
    """training steps of each map"""
    work: Path = OUTPUT / "cluster"
    """folder of scenes and maps"""


def main() -> None:
    arguments = tyro.cli(ClusterArguments, prog="python -m benchmarks cluster", use_underscores=True)
    scenes = [room(arguments.work / f"room{seed}", seed) for seed in range(arguments.scenes)]
    record = Record(RESULTS / "cluster.json", keep="none")
    for nodes in arguments.nodes:
        figures = measure(arguments, scenes, nodes)
        log(str(record.put({"nodes": nodes, "scenes": len(scenes)}, figures)))
    publish_cluster(record.rows)


def room(folder: Path, seed: int) -> Path:
    """A synthetic room; made once."""
    if not (folder / "test").is_dir():
        make_room(folder, RoomOptions(width=160, height=128, train=60, test=100, seed=seed))
    return folder


def measure(arguments: ClusterArguments, scenes: list[Path], nodes: int) -> Row:
    """Seconds of the maps and of the queries on a cluster of so many nodes, and what the poses were."""
    cluster = start(nodes)
    workers = RayWorkers(cluster.address, cores=1)
    maps = [arguments.work / f"{nodes}-nodes" / scene.name for scene in scenes]
    steps = (*_MAPPING, "--iterations", str(arguments.iterations))
    for output in maps:
        shutil.rmtree(output, ignore_errors=True)
    try:
        run(workers, [_job(("-c", "import gsplatloc.mapping.train"), arguments.work)] * nodes)  # into memory
        trained = [
            _job(("-m", "gsplatloc", "train", "-s", str(scene), "-m", str(output), *steps), output)
            for scene, output in zip(scenes, maps, strict=True)
        ]
        mapping = run(workers, trained)
        queries = run(
            workers, [_job(("-m", "gsplatloc", "localize", "-m", str(path)), path) for path in maps]
        )
    finally:
        workers.close()
        cluster.shutdown()
    found = [read_json(output / "localization" / "metrics.json") for output in maps]
    counts = [int(metrics["count"]) for metrics in found]
    good = sum(round(metrics["final"]["recall"]["5cm_5deg"] * metrics["count"]) for metrics in found)
    return {"mapping_s": mapping, "queries_s": queries, "queries": sum(counts), "good": good}


def start(nodes: int) -> Any:
    """A cluster of so many nodes on this machine, of one core each."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        raise GSplatLocError('expected ray, found none: pip install "gsplatloc[ray]"') from None
    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    return cluster


def run(workers: RayWorkers, jobs: list[Job]) -> float:
    """Seconds until all jobs are done; raises `GSplatLocError` if one failed."""
    begin = time.perf_counter()
    futures: list[Future[int]] = [workers.submit(job) for job in jobs]
    for job, future in zip(jobs, futures, strict=True):
        if future.result() != 0:
            raise GSplatLocError(f"expected a job to end well, found: {last_error(job.log)}; see {job.log}")
    return time.perf_counter() - begin


def publish_cluster(rows: list[Row], root: Path = ROOT) -> list[Path]:
    """Write the table between the marks of `cluster` below `root`; factors are relative to one node."""
    rows = sorted(rows, key=lambda row: row["nodes"])
    first = rows[0]

    def cell(row: Row, name: str) -> str:
        return number(row[name], 1, unit=" s") + f" ({first[name] / row[name]:.2f} ×)"

    header = ("nodes of one core", f"mapping {first['scenes']} scenes", f"{first['queries']} queries",
              "within 5 cm 5°")  # fmt: skip
    lines = []
    for row in rows:
        good = f"{row['good']} of {row['queries']}"
        lines.append((str(row["nodes"]), cell(row, "mapping_s"), cell(row, "queries_s"), good))
    return publish({"cluster": f"{table(header, lines)}\n\n{origin_line(rows)}"}, root)


def _job(words: tuple[str, ...], folder: Path) -> Job:
    return Job(words, folder.with_suffix(".log"))


if __name__ == "__main__":
    run_script(main)
