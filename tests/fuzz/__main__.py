"""Fuzz the readers: `python -m tests.fuzz [READER ...] [--inputs N] [--seconds S] [--seed N]`.

Each reader gets a process of its own with 2 GB more memory than it starts with, and 10 seconds an input. An
input is right if every read of it returns, or raises one `GSplatLocError` of one short line. Faults are
printed as JSON lines, each kind once; `--seed INPUT --inputs 1` repeats an input.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from gsplatloc.utils.errors import GSplatLocError
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import TARGETS, Target

MEMORY = 2 << 30  # bytes
SECONDS = 10  # an input
REPORT = os.fdopen(os.dup(1), "w", buffering=1)  # of lines
LONGEST = 500  # characters of an error, without the paths in it


def faults(target: Target, root: Path) -> Iterator[str]:
    """What is wrong in reading an input: kind and place of each exception."""
    for read in target.reads:
        try:
            read(root)
        except GSplatLocError as error:
            if root.name == "case-0":
                raise  # nothing was damaged
            text = str(error).replace(str(root), "")
            if len(text) > LONGEST or not text.isprintable():
                yield f"{len(text)} characters, or not printable, at {_place(error)}: {text[:150]!r}"
        except BaseException as error:  # Rust's panics are no Exceptions
            if isinstance(error, KeyboardInterrupt):
                raise
            yield f"{type(error).__name__} at {_place(error)}: {str(error)[:200]!r}"


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/" not in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the test"


def run(name: str, seed: int, inputs: int, seconds: float, root: Path) -> None:
    """Read damaged inputs until their number or the time is reached, and print how many they were."""
    target, seen, end = TARGETS[name], set[str](), time.monotonic() + seconds
    valid = root / "valid"
    valid.mkdir()
    target.build(valid)
    whole = {p.relative_to(valid): p.read_bytes() for p in sorted(valid.rglob("*")) if p.is_file()}
    for number in range(seed, seed + inputs):
        if time.monotonic() > end:
            break
        case = root / f"case-{number}"
        chance = random.Random(f"{name} {number}")
        for path in [chance.choice(list(whole))] if target.alone and number else whole:
            copy = case / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(whole[path])
        if number:
            mutate(chance, case)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # kills the process, in native code too
        for fault in faults(target, case):
            if (kind := fault.partition(": ")[0]) not in seen:
                seen.add(kind)
                print(json.dumps({"reader": name, "input": number, "fault": fault}), file=REPORT)
        shutil.rmtree(case)
    print(
        json.dumps({"reader": name, "inputs": number - seed + 1, "cpu_s": round(time.process_time(), 1)}),
        file=REPORT,
    )


def limited(name: str, options: argparse.Namespace) -> bool:
    """Run in children with limits; False if one died, which is printed as a fault. The next one goes on."""
    first, end, start = options.seed, options.seed + options.inputs, time.monotonic()
    while first < end:
        with tempfile.TemporaryDirectory() as folder:
            left = options.seconds - (time.monotonic() - start)
            status = _child(name, first, end - first, left, Path(folder))
            if not status:
                break
            dead = [int(path.name.removeprefix("case-")) for path in Path(folder).glob("case-*")]
        fault = f"the process died with status {status}, reading input {dead}"
        print(
            json.dumps({"reader": name, "inputs": max(dead, default=end) - first, "fault": fault}),
            file=REPORT,
        )
        first = max(dead, default=end) + 1
    return first == options.seed


def _child(name: str, first: int, inputs: int, seconds: float, folder: Path) -> int:
    """The exit status of a process that reads the inputs."""
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            run(name, first, inputs, seconds, folder)
        except BaseException:
            traceback.print_exc(file=REPORT)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(TARGETS), metavar="READER")
    parser.add_argument("--inputs", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for stream in (1, 2):  # what libraries print of damaged files
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.exit(not all([limited(name, options) for name in options.readers]))


if __name__ == "__main__":
    main()
