"""Jobs in processes side by side: how they end, and what follows from it."""

import signal
import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path

import pytest

from gsplatloc.arguments.reproduce import parse_reproduce_arguments
from gsplatloc.reproduction import parallel
from gsplatloc.reproduction.request import Step
from gsplatloc.reproduction.run import Parallel, Reproduction
from gsplatloc.reproduction.scene_run import Part
from gsplatloc.reproduction.workers import Job, LocalWorkers, last_error
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import read_json


def job(folder: Path, code: str, name: str = "job") -> Job:
    return Job(("-c", code), folder / f"{name}.log")


def test_jobs_run_side_by_side_and_tell_how_they_ended(tmp_path: Path) -> None:
    workers = LocalWorkers(2)
    # Each job waits for the file of the other one.
    code = "import pathlib, time\npathlib.Path({0!r}).touch()\nother = pathlib.Path({1!r})\n"
    code += "while not other.exists(): time.sleep(0.01)"
    files = [str(tmp_path / "a"), str(tmp_path / "b")]
    meeting = [
        workers.submit(job(tmp_path, code.format(*pair), f"{i}"))
        for i, pair in enumerate([files, files[::-1]])
    ]
    failing = workers.submit(job(tmp_path, "import sys; print('error: no data'); sys.exit(1)"))
    done, _ = wait([*meeting, failing], timeout=60)
    assert len(done) == 3
    assert [future.result() for future in (*meeting, failing)] == [0, 0, 1]
    assert last_error(tmp_path / "job.log") == "no data"
    workers.close()


def test_a_job_that_was_killed_is_run_again(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\n"
        f"path = pathlib.Path({str(tmp_path / 'tried')!r})\n"
        "if not path.exists():\n    path.touch()\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    workers = LocalWorkers(1)
    assert workers.submit(job(tmp_path, code)).result(60) == 0
    always = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert workers.submit(job(tmp_path, always)).result(60) == -signal.SIGKILL
    workers.close()


def test_closing_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    workers = LocalWorkers(1)
    started = tmp_path / "started"
    endless = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    running, waiting = (workers.submit(job(tmp_path, endless, name)) for name in ("a", "b"))
    end = time.monotonic() + 60
    while not started.exists() and time.monotonic() < end:
        time.sleep(0.02)
    closing = threading.Thread(target=workers.close)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    assert running.result(0) == -signal.SIGTERM and waiting.cancelled()


class Scripted:
    """Workers whose jobs end at once, with the exit code of their scene."""

    count = 2

    def __init__(self, codes: dict[str, int]) -> None:
        self.codes, self.parts, self.closed = codes, [], False

    def submit(self, job: Job) -> "Future[int]":
        described = read_json(Path(job.words[0]))
        scene = described["step"]["scene"]
        self.parts.append((scene, described["part"]))
        code, future = self.codes[scene], Future()
        if code:
            job.log.write_text("error: the disk is full\n")
        future.set_result(code)
        return future

    def close(self) -> None:
        self.closed = True


def test_a_scene_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished: list[str] = []
    parts = [Part("localization", 0, 20), Part("localization", 20, 30)]
    monkeypatch.setattr(parallel, "scene_parts", lambda *_: parts)
    monkeypatch.setattr(parallel, "finish_scene", lambda *words: finished.append(words[1].scene))
    request = parse_reproduce_arguments(["gsplatloc-7scenes", "-o", str(tmp_path), "--quiet"]).request()
    workers, done = Scripted({"chess": 0, "fire": 1}), []
    run = parallel.ParallelRun(request, workers, lambda path: (str(path),), 1, done.append)
    steps = [Step(scene, "ours", tmp_path, "key") for scene in ("fire", "chess")]
    assert run.run(steps) == {"fire": "the disk is full"}
    assert finished == ["chess"] and done == steps[1:] and workers.closed
    assert [part for scene, part in workers.parts if scene == "chess"] == [
        "map",
        *({"run": "localization", "start": part.start, "stop": part.stop} for part in parts),
    ]
    assert "fire, ours: the disk is full" in capsys.readouterr().err


def test_a_stop_while_data_is_prepared_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reproduction, "_steps_left", stop)
    request = parse_reproduce_arguments(["gsplatloc-7scenes", "-o", str(tmp_path)]).request()
    with pytest.raises(KeyboardInterrupt):
        Reproduction(request).run_on(Parallel(lambda: Scripted({}), lambda path: (str(path),), 1))
    assert "stopped: the same command goes on from here" in capsys.readouterr().out


def test_workers_get_the_command_line_with_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["gs-cpr", "--data", "d", "--poses", "p", "--every", "3", "--iterations", "5", "--workers", "2"]
    arguments = parse_reproduce_arguments(words)
    again = parse_reproduce_arguments(arguments.words())
    mine, its = arguments.request(), again.request()
    assert (its.every, its.mapping("ours").schedule) == (3, mine.mapping("ours").schedule)
    assert its.poses == tmp_path / "p" and its.setup.output == tmp_path / "d"
    assert its.output == tmp_path / mine.output and again.workers == 0


@pytest.mark.parametrize(
    "words", [["--workers", "-1"], ["--cores", "0"], ["--workers", "2", "--ray", "auto"]]
)
def test_impossible_workers_are_one_line(words: list[str]) -> None:
    with pytest.raises(GSplatLocError, match="--workers"):
        parse_reproduce_arguments(["gsplatloc-7scenes", *words])
