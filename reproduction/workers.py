"""Processes that make the parts of a table side by side: on this machine, or on a cluster of Ray.

A job is a command that writes its results into files, on a file system that all machines share. A job whose
process was killed (too little memory, a machine that failed) is run again, and goes on where it was.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gsplatloc
from gsplatloc.utils.errors import GSplatLocError

_ATTEMPTS = 3  # of a job whose process was killed
_GRACE_S = 5.0  # from SIGTERM to SIGKILL
_POLL_S = 0.2
_PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends


@dataclass(frozen=True)
class Job:
    """A command, the file of what it prints, and what it needs."""

    words: tuple[str, ...]  # after the Python interpreter
    log: Path
    cores: int = 1


class Workers(Protocol):
    """Where jobs run."""

    count: int  # jobs that run at once

    def submit(self, job: Job) -> "Future[int]":
        """Run a job; its result is the exit code, negative for the signal that killed it."""

    def close(self) -> None:
        """End all jobs, and wait for them."""


class LocalWorkers:
    """Up to `count` processes on this machine, which share its cores."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count)
        self._closing = threading.Event()

    def submit(self, job: Job) -> "Future[int]":
        return self._pool.submit(self._run, job)

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job) -> int:
        for _ in range(_ATTEMPTS):
            code = run_job(job, self._closing)
            if code >= 0 or self._closing.is_set():
                break
        return code


class RayWorkers:
    """Tasks on a cluster of Ray. Its machines need this installation and the same file system."""

    def __init__(self, address: str, cores: int) -> None:
        """`address`: of the head, "auto" for the cluster of this machine, "local" for a new one of it."""
        try:
            import ray
        except ImportError:
            raise GSplatLocError('expected ray, found none: pip install "gsplatloc[ray]"') from None
        self._ray: Any = ray
        try:
            ray.init(
                None if address == "local" else address,
                ignore_reinit_error=True,
                log_to_driver=False,
                logging_level="error",
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise GSplatLocError(
                f"expected a cluster of Ray at {address}, found {error}: see --ray"
            ) from None
        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)
        self._task = ray.remote(max_retries=_ATTEMPTS)(_run_in_task)
        self._tasks: list[Any] = []

    def submit(self, job: Job) -> "Future[int]":
        task = self._task.options(num_cpus=job.cores).remote(job)
        self._tasks.append(task)
        future: Future[int] = task.future()
        return future

    def close(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task)
        self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=_GRACE_S) if self._tasks else None
        self._ray.shutdown()


def _run_in_task(job: Job) -> int:
    code = run_job(job, threading.Event())
    if code < 0:  # Ray runs the task again
        raise RuntimeError(f"the process of a job was killed by signal {-code}")
    return code


def run_job(job: Job, closing: threading.Event) -> int:
    """Run a job's command to its end; ends it when `closing` is set, or when this process ends."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *job.words],
            env=_environment(job),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None and not closing.is_set():
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
    return process.wait()


def _environment(job: Job) -> dict[str, str]:
    """This one, with as many threads as the job has cores, and with this installation first."""
    root = str(Path(gsplatloc.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(job.cores),
        "PYTHONPATH": os.pathsep.join([root, known] if known else [root]),
    }


def end_with_parent() -> None:
    """Called in the process of a job: it must not go on, and write, beside the one that replaces it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def last_error(log: Path) -> str:
    """The last line that a job printed: its error."""
    lines: Sequence[str] = (
        log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    )
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("error: ") if said else f"nothing in {log}"
