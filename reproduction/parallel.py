"""The steps of a table on workers: maps side by side, then the queries of each map in parts side by side."""

import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from gsplatloc.reproduction.request import Request, Step
from gsplatloc.reproduction.scene_run import Part, finish_scene, scene_parts
from gsplatloc.reproduction.workers import Job, Workers, last_error
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_json

_LOGS = "logs"  # folder of what jobs print, in the table's
_MAP, _TRACK = "map", "track"
_POLL_S = 1.0  # between two looks at signals


@dataclass(frozen=True)
class Task:
    """A part of a step: its map, its trajectory, or some of its queries."""

    step: Step
    part: Part | str


class ParallelRun:
    """Runs steps on workers; a step whose task fails is left out, and the others go on."""

    def __init__(
        self,
        request: Request,
        workers: Workers,
        words: Callable[[Path], tuple[str, ...]],
        cores: int,
        done: Callable[[Step], None],
    ) -> None:
        """`words`: the command of a job, from the file that describes it; `done` follows each step."""
        self._request, self._workers = request, workers
        self._words, self._cores, self._done = words, cores, done
        self._pending: dict[Future[int], Task] = {}
        self._left: dict[Step, int] = {}  # parts that are not done, of steps that have a map
        self.failures: dict[str, str] = {}
        self._steps = self._finished = 0

    def run(self, steps: list[Step]) -> dict[str, str]:
        """Run all steps; returns the scenes that failed, with the reason."""
        self._steps = len(steps)
        first = _TRACK if self._request.table.evaluation == "track" else _MAP
        try:
            for step in steps:
                self._submit(Task(step, first))
            while self._pending:
                ready, _ = wait(self._pending, _POLL_S, FIRST_COMPLETED)
                for future in ready:
                    self._ended(self._pending.pop(future), future)
        finally:
            self._workers.close()
        return self.failures

    def _submit(self, task: Task) -> None:
        path = self._path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        step = asdict(task.step) | {"source": str(task.step.source)}
        write_json(
            path, {"step": step, "part": task.part if isinstance(task.part, str) else asdict(task.part)}
        )
        job = Job(self._words(path), path.with_suffix(".log"), self._cores)
        job.log.unlink(missing_ok=True)
        self._pending[self._workers.submit(job)] = task

    def _path(self, task: Task) -> Path:
        """The file that describes a task; what it prints is beside it."""
        part = task.part if isinstance(task.part, str) else f"{task.part.run}-{task.part.start:06d}"
        return self._request.folder(task.step.scene, task.step.method) / _LOGS / f"{part}.json"

    def _ended(self, task: Task, future: "Future[int]") -> None:
        step = task.step
        try:
            code = future.result()
        except Exception as error:  # of the cluster: a machine that failed too often, too little memory
            self._fail(step, str(error))
            return
        if code != 0:
            self._fail(step, last_error(self._path(task).with_suffix(".log")))
        elif task.part == _TRACK:
            self._complete(step)
        elif task.part == _MAP:
            self._localize(step)
        else:
            self._left[step] -= 1
            if self._left[step] == 0 and step.scene not in self.failures:
                finish_scene(self._request, step)
                self._complete(step)

    def _localize(self, step: Step) -> None:
        try:
            parts = scene_parts(self._request, step, 2 * self._workers.count)
        except GSplatLocError as error:
            self._fail(step, str(error))
            return
        self._left[step] = len(parts)
        for part in parts:
            self._submit(Task(step, part))

    def _complete(self, step: Step) -> None:
        self._finished += 1
        log(f"[{self._finished}/{self._steps}] {step}: done", self._request.quiet)
        self._done(step)

    def _fail(self, step: Step, reason: str) -> None:
        if step.scene not in self.failures:
            self.failures[step.scene] = reason
            log(f"{step}: {reason}", stream=sys.stderr)
