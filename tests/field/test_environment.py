"""Shells and systems as people have them: other encodings, closed streams, no home folder, little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsplatloc import cli
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import expanded

ROOT = Path(__file__).parents[2]
SAY = "from gsplatloc.utils.console import log, run_script; run_script(lambda: log('5 \\xb1 1\\xb0 \\udce9'))"
FAIL = "from gsplatloc.utils.console import run_script\ndef main(): raise {}\nrun_script(main)"


def python(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, errors="replace")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
)
def test_any_text_is_printed_in_any_encoding(settings: dict[str, str]) -> None:
    done = python(SAY, **settings)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("5 ")


@pytest.mark.skipif(os.name != "posix", reason="shells of POSIX")
def test_closed_streams_are_no_error_and_no_file_gets_their_numbers(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom gsplatloc.utils.console import progress, run_script\n"
        "def main():\n  for _ in progress(range(3)): print('x'); print('y', file=sys.stderr)\n"
        f"  with open({str(tmp_path / 'data')!r}, 'w') as file:\n"
        "    os.write(2, b'native'); os.write(1, b'code')\n"
        "run_script(main)"
    )
    (tmp_path / "code.py").write_text(code)
    line = f"'{sys.executable}' '{tmp_path / 'code.py'}' <&- >&- 2>&-"
    assert subprocess.run(line, shell=True, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    assert (tmp_path / "data").read_text() == ""


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError",
        "RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried to allocate 8 bytes')",
        "ImportError('libtorch_cpu.so: failed to map segment from shared object')",
        "OSError(12, 'Cannot allocate memory')",
    ],
)
def test_too_little_memory_is_one_line(error: str) -> None:
    done = python(FAIL.format(error))
    assert done.returncode == 1 and done.stderr.startswith("error: expected enough memory")
    assert done.stderr.count("\n") == 1


def test_too_many_open_files_are_one_line() -> None:
    done = python(FAIL.format("OSError(24, 'Too many open files', 'a.png')"))
    assert (done.returncode, done.stderr) == (1, "error: Too many open files: a.png\n")


def test_the_home_folder_is_found_where_shells_leave_it_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for word, meant in (("~/a", "/home/me/a"), ("--model_path=~/a", "--model_path=/home/me/a")):
        assert cli._with_home(word) == meant
    for word in ("-m", "a~b", "--focal=5", "./~"):
        assert cli._with_home(word) == word


@pytest.mark.parametrize("word", ["~nobody.here/a", "--model_path=~nobody.here/a"])
def test_the_home_folder_of_nobody_is_one_line(word: str) -> None:
    with pytest.raises(GSplatLocError, match="expected a home folder for ~nobody.here/a"):
        cli._with_home(word)


def test_a_file_whose_name_begins_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody.here").touch()
    assert expanded("~nobody.here") == Path("~nobody.here")


@pytest.mark.parametrize("word", ["", "--model_path="])
def test_the_value_of_an_unset_variable_is_refused(word: str) -> None:
    """Path("") is the current folder, into which a map would be written."""
    with pytest.raises(GSplatLocError, match="found an empty one"):
        cli._with_home(word)
