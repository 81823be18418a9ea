"""One run at a time in an output folder; what killed runs leave behind."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gsplatloc.utils import locks
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path, write_text
from gsplatloc.utils.locks import output_folder, sweep

HOLD = """
import sys, time
from gsplatloc.utils.io import atomic_path
from gsplatloc.utils.locks import output_folder
with output_folder(sys.argv[1]) as folder, atomic_path(folder / "map.ply") as temporary:
    temporary.write_text("half")
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that has locked `tmp_path / "out"` and is writing into it."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_told_who_writes_into_the_folder(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(GSplatLocError, match=f"found process {holder.pid} on .+ since 2.+: wait for it"):
        output_folder(tmp_path / "out").__enter__()
    assert len(list((tmp_path / "out").glob(".map.ply.*.ply"))) == 1, "the living run's file was deleted"


def test_a_killed_run_leaves_no_lock_and_its_files_are_swept(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list((tmp_path / "out").iterdir())) == 2
    with output_folder(tmp_path / "out") as folder:
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert list(folder.iterdir()) == []


def test_a_folder_is_locked_where_the_system_has_no_fchmod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fchmod")
    with output_folder(tmp_path / "out") as folder:
        assert (folder / ".lock").is_file()


def test_two_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    refused = []

    def enter() -> None:
        try:
            with output_folder(tmp_path / "out"):
                pass
        except GSplatLocError as error:
            refused.append(str(error))

    with output_folder(tmp_path / "out"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1 and f"process {os.getpid()}" in refused[0]


def test_of_many_runs_at_once_one_at_a_time_gets_the_folder(tmp_path: Path) -> None:
    """The lock file is removed and made again all the time; nobody may lock one that is gone."""
    inside, most, entered = [], [], []

    def enter() -> None:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                with output_folder(tmp_path / "out"):
                    inside.append(1)
                    entered.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
            except GSplatLocError:
                pass

    # Threads lock by descriptors of their own, as processes do; `_held` has one entry for a folder.
    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(entered) > 10


def test_without_locks_of_the_file_system_a_living_owner_is_respected(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with pytest.raises(GSplatLocError, match=f"found process {holder.pid} "):
        output_folder(tmp_path / "out").__enter__()
    holder.kill()
    holder.wait()
    with output_folder(tmp_path / "out"):
        pass


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_was_removed_meanwhile_is_one_line(tmp_path: Path, replaced: bool) -> None:
    with output_folder(tmp_path / "out") as folder:
        shutil.rmtree(folder)
        if replaced:
            folder.mkdir()
        with pytest.raises(GSplatLocError, match=r"out, found that it was removed or replaced during"):
            write_text(folder / "deep" / "a.txt", "text")
        assert folder.exists() == replaced


def test_a_folder_removed_while_a_file_is_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(GSplatLocError, match="removed or replaced"),
        output_folder(tmp_path / "out") as folder,
        atomic_path(folder / "a.txt"),
    ):
        shutil.rmtree(folder)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/self/out")):
        with pytest.raises(GSplatLocError, match=r"expected a folder .+ that can be written, found .+: .+;"):
            output_folder(folder).__enter__()


def test_a_new_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="no scene"), output_folder(tmp_path / "out"):
        raise GSplatLocError("no scene")
    assert list(tmp_path.iterdir()) == []


def test_only_own_unfinished_files_are_swept(tmp_path: Path) -> None:
    old = time.time() - 100_000
    kept = [".hidden", "a.unfinished.txt", ".b.12345678.txt", ".c.txt.1234abcd.unlocked.txt", "map.ply"]
    swept = [".d.txt.1234abcd.unfinished.txt", "e/.f.1234abcd.unfinished", "e/.g.ply.1234abcd.unlocked.ply"]
    for name in [*kept, *swept, "localization/.g.txt.1234abcd.unfinished.txt", "localization/.lock"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    os.utime(tmp_path / swept[-1], (old, old))
    with output_folder(tmp_path):
        left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, ".lock", "localization/.lock", "localization/.g.txt.1234abcd.unfinished.txt"}


def test_what_is_not_locked_is_swept_when_it_is_old(tmp_path: Path) -> None:
    """A feature cache may serve several runs at once."""
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.txt") as temporary:
        sweep(tmp_path)
        assert temporary.exists()
        os.utime(temporary, (0, 0))
        sweep(tmp_path)
        assert not temporary.exists()
        raise KeyboardInterrupt


def test_a_temporary_file_that_safetensors_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    for name in (".tmpl1bVJ1", "cache/.tmpAbCd09", ".tmpl", "tmpl1bVJ1"):
        (tmp_path / name).touch()
    with output_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".tmpl", "cache", "tmpl1bVJ1"]
