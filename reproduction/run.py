"""Make a table: scene after scene, method after method, the page after each; a run that stopped goes on."""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gsplatloc.datasets.command import accept_terms
from gsplatloc.reproduction.figures import read_cost, read_rows, scenes_done
from gsplatloc.reproduction.methods import METHODS, MethodName
from gsplatloc.reproduction.page import Content, write_page
from gsplatloc.reproduction.parallel import ParallelRun
from gsplatloc.reproduction.plan import duration, matrix_rate, plan_lines, plan_scene
from gsplatloc.reproduction.request import Request, Step
from gsplatloc.reproduction.scene_run import identity, run_scene
from gsplatloc.reproduction.track_run import track_scene
from gsplatloc.reproduction.workers import Workers
from gsplatloc.utils import signals
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.locks import output_folder
from gsplatloc.utils.machine import describe, short_commit
from gsplatloc.utils.version import version

Name = tuple[str, MethodName]  # scene and method of a step


@dataclass(frozen=True)
class Parallel:
    """On which workers a table is made."""

    start: Callable[[], Workers]
    words: Callable[[Path], tuple[str, ...]]  # the command of a job, from the file that describes it
    cores: int  # of each worker


def dry_run(request: Request) -> None:
    """Print what making the table will take; nothing is written or downloaded."""
    log("\n".join(plan_lines(request, [plan_scene(request, scene, ask=True) for scene in request.scenes])))


def reproduce(request: Request, parallel: Parallel | None = None) -> None:
    """Make the table, on workers if these are given; exits with the code of a signal that ended it.

    A scene that cannot be made is stated on the page, and the others are made; then `GSplatLocError`.
    """
    _check(request)
    with output_folder(request.output):
        made = Reproduction(request)
        failures = made.run() if parallel is None else made.run_on(parallel)
    log(f"table      {request.output / 'table.html'}", request.quiet)
    if failures:
        scene, reason = next(iter(failures.items()))
        raise GSplatLocError(
            f"expected every scene to be made, found {len(failures)} failed: {scene}: {reason}"
        )


def _check(request: Request) -> None:
    """What would fail after hours is an error now; the licences of what is downloaded are accepted now."""
    table = request.table
    table.check_scenes(request.scenes)
    if table.evaluation == "track" and request.every != 1:
        raise GSplatLocError("expected whole sequences of RGB-D tables, found --every: leave it out")
    missing = [scene for scene in request.scenes if table.data.find(request.setup.output, scene) is None]
    if any(table.data.archive_of(request.setup, scene) is None for scene in missing) and table.data.sources:
        accept_terms(request.setup, *table.data.sources)


class Reproduction:
    """One run of the command: the steps, those that are done, and the time left."""

    def __init__(self, request: Request):
        self.request = request
        self.steps: list[Name] = [(scene, method) for scene in request.scenes for method in request.methods]
        self.failures: dict[str, str] = {}
        self._expected: dict[Name, float] = {}  # seconds
        self._factors: dict[str, float] = {}  # by method: time that its last step took, of the expected

    def run(self) -> Mapping[str, str]:
        """Run every step that is not done; returns the scenes that failed, with the reason."""
        for scene in self.request.scenes:
            plan = plan_scene(self.request, scene)
            self._expected |= {(scene, name): seconds for name, seconds in plan.seconds.items()}
        for scene in self.request.scenes:
            with self._without_failures_of(scene):
                for step in self._steps_left(scene):
                    self._run_step(step)
            self._write_page()
        return self.failures

    def run_on(self, parallel: Parallel) -> Mapping[str, str]:
        """Run every step that is not done on workers; returns the scenes that failed, with the reason."""
        workers = parallel.start()
        run = ParallelRun(self.request, workers, parallel.words, parallel.cores, lambda _: self._write_page())
        log(f"workers    {workers.count}, each with {parallel.cores} cores", self.request.quiet)
        steps: list[Step] = []
        try:
            for scene in self.request.scenes:
                with self._without_failures_of(scene):
                    steps += self._steps_left(scene)
            self.failures |= run.run(steps)
        except (KeyboardInterrupt, SystemExit):
            log("stopped: the same command goes on from here", self.request.quiet)
            raise
        self._write_page()
        return self.failures

    @contextmanager
    def _without_failures_of(self, scene: str) -> Iterator[None]:
        """Record an error of a scene: the others are made nevertheless."""
        try:
            yield
        except GSplatLocError as error:
            self.failures[scene] = str(error)
            log(f"{scene}: {error}", stream=sys.stderr)

    def _steps_left(self, scene: str) -> list[Step]:
        """The steps of a scene that are not done; its data is prepared."""
        request = self.request
        source = request.table.data.prepare(request.setup, scene)
        keys = {(scene, method): identity(request, method, scene, source) for method in request.methods}
        done = scenes_done(request, keys)
        return [Step(*name, source, key) for name, key in keys.items() if name not in done]

    def _run_step(self, step: Step) -> None:
        self._announce(step)
        start = time.perf_counter()
        make = track_scene if self.request.table.evaluation == "track" else run_scene
        if not make(self.request, step):
            log("stopped: the same command goes on from here", self.request.quiet)
            sys.exit(signals.exit_code())
        expected = max(self._expected[step.scene, step.method], 1e-3)
        self._factors[step.method] = (time.perf_counter() - start) / expected
        self._write_page()

    def _announce(self, step: Step) -> None:
        """One line of progress: which step this is, and how long the rest will take."""
        index = self.steps.index((step.scene, step.method))
        left = sum(self._factors.get(name[1], 1.0) * self._expected[name] for name in self.steps[index:])
        text = f"[{index + 1}/{len(self.steps)}] {step}: about {duration(left)} left for all"
        log(text, self.request.quiet)

    def _write_page(self) -> None:
        """Write the page of all results with these settings, also of scenes and methods of earlier runs."""
        done = scenes_done(self.request, self._keys())
        rows = read_rows(self.request, done)
        costs = [read_cost(self.request, scene, method) for scene, method in done]
        write_page(
            Content(
                self.request, rows, costs, self.failures, facts(self.request, [method for _, method in done])
            )
        )

    def _keys(self) -> dict[Name, str]:
        """The identities of results by these settings, of all scenes that are there."""
        request, keys = self.request, {}
        for scene in dict.fromkeys((*request.table.scenes, *request.scenes)):
            with suppress(GSplatLocError):  # made otherwise, or without poses to refine
                source = request.table.data.find(request.setup.output, scene)
                if source is not None:
                    for method in request.table.methods:
                        keys[scene, method] = identity(request, method, scene, source)
        return keys


def facts(request: Request, methods: Collection[MethodName]) -> dict[str, str]:
    """What a reader needs to make the table again: machine, versions, and what was left out."""
    machine = describe()
    found = {
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads",
        "speed": f"{matrix_rate():.0f} GFLOP/s (float32 matrix product)",
        "versions": f"gsplatloc {version()}, torch {machine['torch']}, Python {machine['python']}",
        "commit of this page": short_commit(machine["commit"]),
        "test images": "all" if request.every == 1 else f"one in {request.every}",
    }
    if request.resolution is not None:
        found["resolution"] = str(request.resolution)
    if request.table.evaluation != "track":
        for name in (name for name in METHODS if name in methods):
            found[f"iterations of {name}"] = f"{request.mapping(name).schedule.iterations:,}"
    return found
