"""The suite's measurement of mapping as a whole: one run of train.py, from a clean cache."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.accuracy import run
from benchmarks.demo import DemoArguments, commands
from benchmarks.yardstick import Protocol, Yardstick
from gsplatloc.datasets.room import RoomOptions, make_room
from gsplatloc.scene import SceneOptions

ROOT = Path(__file__).resolve().parents[1]

DATA = Path(os.environ.get("GSPLATLOC_DATA", ROOT.parent / "shared" / "data"))
_KITCHEN = "pgt_7scenes_redkitchen"
_ROOM = "room"
_PRODUCTS = 30  # before and after: a child's time cannot be interleaved with them


def scene_of(wanted: Path | None, data: Path, work: Path) -> tuple[Path, SceneOptions]:
    """The scene to train on: the one asked for, RedKitchen where it is here, else a synthetic room."""
    source = wanted or data / _KITCHEN
    if wanted is None and not source.is_dir():
        source = work / _ROOM
        if not (source / "test").is_dir():
            make_room(source, RoomOptions())
    return source, SceneOptions(eval=not (source / "train").is_dir())


def measure_mapping(source: Path, made: Path, work: Path, protocol: Protocol) -> dict[str, Any]:
    """Seconds, peak memory and GFLOP of torch.matmul in the same time, with the preset for a CPU."""
    shutil.rmtree(made, ignore_errors=True)
    command = _command(source, made, work)
    yardstick = Yardstick(protocol)
    seconds = [yardstick.product() for _ in range(_PRODUCTS)]
    cost = run([sys.executable, *command], work / "mapping.log")
    seconds += [yardstick.product() for _ in range(_PRODUCTS)]
    product = sorted(seconds)[len(seconds) // 2]
    return {
        "scene": source.name, "seconds": cost.seconds, "peak_bytes": cost.peak_bytes,
        "gflop": cost.seconds / product * yardstick.gflop,
    }  # fmt: skip


def _command(source: Path, made: Path, work: Path) -> list[str]:
    """train.py for the scene; the room is so small that the demo's shorter schedule suits it."""
    if source == work / _ROOM:
        flags = commands(DemoArguments())["mapping"]
        flags[flags.index("-s") + 1], flags[flags.index("-m") + 1] = str(source), str(made)
        return [*flags, "--quiet"]
    layout = [] if (source / "train").is_dir() else ["--eval"]
    return ["train.py", "-s", str(source), "-m", str(made), "--preset", "cpu", *layout, "--quiet"]
