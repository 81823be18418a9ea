"""Fuzz the readers: `python -m tests.fuzz [READER ...] [--inputs N] [--seconds S] [--seed N]`.

Each reader gets a process of its own with 2 GB more memory than it starts with, and 10 seconds an input; its
files lie in memory where the system has a folder there. An input is right if every read of it returns, or
raises one `GSplatLocError` of one short line. Those that are the valid one again, or no scene of any layout,
are not counted. Faults are printed as JSON lines, each kind once; `--seed INPUT --inputs 1` repeats an input.
With `--record` the numbers of inputs are added up in a file, and each reader goes on where it was stopped.
"""

import argparse
import gc
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json
from tests.fuzz.case import Case
from tests.fuzz.readers import NOTHING, TARGETS, Target

MEMORY = 2 << 30  # bytes
SECONDS = 10  # an input
REPORT = os.fdopen(os.dup(1), "w", buffering=1)  # of lines
LONGEST = 500  # characters of an error, without the paths in it
IN_MEMORY = Path("/dev/shm")
FOREIGN = "expected a scene in "  # begins the error of a folder that no reader reads


@dataclass
class Tally:
    """What was read of a reader's inputs, and which is the next."""

    inputs: int = 0  # that reached the reader
    next: int = 0
    faults: int = 0  # kinds
    cpu_s: float = 0.0


class Examined(NamedTuple):
    """An input that was read."""

    reached: bool  # whether a reader read it
    faults: list[str]  # kind and place of each exception


def examined(target: Target, root: Path, *, valid: bool = False) -> Examined:
    """Read an input; a `valid` one that is refused is an exception."""
    reached, faults = False, []
    for read in target.reads:
        try:
            reached |= read(root) is not NOTHING
        except GSplatLocError as error:
            if valid:
                raise
            text = str(error).replace(str(root), "")
            reached |= not text.startswith(FOREIGN)
            if len(text) > LONGEST or not text.isprintable():
                faults.append(f"{len(text)} characters, or not printable, at {_place(error)}: {text[:150]!r}")
        except BaseException as error:  # Rust's panics are no Exceptions
            if isinstance(error, KeyboardInterrupt):
                raise
            faults.append(f"{type(error).__name__} at {_place(error)}: {str(error)[:200]!r}")
    return Examined(reached or bool(faults), faults)


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/" not in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the test"


class Progress:
    """Counts that outlive the process that reads."""

    _LAYOUT = struct.Struct("qqq")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._LAYOUT.size)

    def set(self, number: int, inputs: int, faults: int) -> None:
        self._LAYOUT.pack_into(self._memory, 0, number, inputs, faults)

    def get(self) -> tuple[int, int, int]:
        """The input that was begun last, the inputs read before it, and their faults."""
        number, inputs, faults = self._LAYOUT.unpack_from(self._memory)
        return number, inputs, faults


def run(name: str, first: int, inputs: int, seconds: float, root: Path, progress: Progress) -> None:
    """Read damaged inputs until their number or the time is reached."""
    target, seen, end, count, number = TARGETS[name], set[str](), time.monotonic() + seconds, 0, first
    case = Case(target, root)
    gc.freeze()  # what was imported is not looked through again and again
    if not first:
        examined(target, case.root, valid=True)
    while count < inputs and time.monotonic() < end:
        progress.set(number, count, len(seen))
        chance = random.Random(f"{name} {number}")
        if case.damage(chance):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # kills the process, in native code too
            found = examined(target, case.root)
            count += found.reached
            for fault in found.faults:
                if (kind := fault.partition(": ")[0]) not in seen:
                    seen.add(kind)
                    print(json.dumps({"reader": name, "input": number, "fault": fault}), file=REPORT)
        number += 1
    progress.set(number, count, len(seen))
    signal.setitimer(signal.ITIMER_PROF, 0)
    if not case.untouched():
        raise AssertionError(f"the reads of {name} write into its folder: set writes")


def limited(name: str, tally: Tally, inputs: int, seconds: float) -> None:
    """Read until `inputs` are read, or for some seconds, in children with limits.

    A child that dies is a fault, which is printed; the next one goes on behind its input.
    """
    start = time.monotonic()
    memory = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    while tally.inputs < inputs:
        progress, before = Progress(), os.times()
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            left = seconds - (time.monotonic() - start)
            status = _child(name, tally.next, inputs - tally.inputs, left, Path(folder), progress)
        number, read, kinds = progress.get()
        tally.inputs, tally.faults, tally.next = tally.inputs + read, tally.faults + kinds, number
        after = os.times()
        tally.cpu_s += sum(after[2:4]) - sum(before[2:4])
        if not status:
            return
        fault = f"the process died with status {status}"
        print(json.dumps({"reader": name, "input": number, "fault": fault}), file=REPORT)
        tally.faults, tally.next = tally.faults + 1, number + 1


def _child(name: str, first: int, inputs: int, seconds: float, folder: Path, progress: Progress) -> int:
    """The exit status of a process that reads the inputs."""
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            run(name, first, inputs, seconds, folder, progress)
        except BaseException:
            traceback.print_exc(file=REPORT)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def tallies(record: Path | None, seed: int) -> Iterator[tuple[str, Tally]]:
    """Of every reader, what was read before; without a record, the first input is `seed`."""
    stored = json.loads(record.read_text()) if record is not None and record.is_file() else {}
    for name in TARGETS:
        yield name, Tally(**stored[name]) if name in stored else Tally(next=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(TARGETS), metavar="READER")
    parser.add_argument("--inputs", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for stream in (1, 2):  # what libraries print of damaged files
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    clean = True
    for name in options.readers:
        tally = dict(tallies(options.record, options.seed))[name]
        faults = tally.faults
        limited(name, tally, options.inputs, options.seconds)
        tally.cpu_s = round(tally.cpu_s, 1)
        clean &= tally.faults == faults
        print(json.dumps({"reader": name, **asdict(tally)}), file=REPORT)
        if options.record is not None:
            latest = dict(tallies(options.record, options.seed)) | {name: tally}
            write_json(options.record, {key: asdict(each) for key, each in latest.items() if each.inputs})
    sys.exit(not clean)


if __name__ == "__main__":
    main()
