"""The console command: help, version, and words that are no command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsplatloc.cli import COMMANDS, main
from gsplatloc.cli.setup import COMMANDS as DATA_SETS
from gsplatloc.utils.version import version

ROOT = Path(__file__).resolve().parents[2]


def exit_code(*words: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return stopped.value.code


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(flag) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"gsplatloc {version()}\n"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_reader_that_ended_gets_no_traceback(flag: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gsplatloc", flag]
    found = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (found.returncode, found.stderr) == (1, "")


@pytest.mark.parametrize(("words", "found"), [((), "found none"), (("trian",), "found 'trian'")])
def test_an_unknown_command_is_a_usage_error(
    words: tuple[str, ...], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("error: expected a command") and found in said.err
    assert ("did you mean train?" in said.err) == bool(words)
    assert not said.out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_under_its_own_name(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gsplatloc"])
    monkeypatch.setenv("COLUMNS", "80")
    assert exit_code(command, "--help") == 0
    said = capsys.readouterr().out
    assert f"usage: gsplatloc {command}" in said
    assert "None" not in said  # Python's name of an unset option
    too_long = [line for line in said.splitlines() if len(line) > 80]
    assert not too_long


@pytest.mark.parametrize("name", sorted(DATA_SETS))
def test_every_data_set_has_help(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gsplatloc"])
    assert exit_code("setup", name, "--help") == 0
    assert f"usage: gsplatloc setup {name}" in capsys.readouterr().out


HEAVY = ("torch", "numpy", "cv2", "pycolmap", "kornia", "poselib")
COMMAND_LINES = [[name] for name in sorted(COMMANDS) if name != "setup"]
COMMAND_LINES += [["setup"], *(["setup", name] for name in sorted(DATA_SETS))]


def test_help_and_wrong_paths_load_no_heavy_module() -> None:
    """All commands in one process, each of which would leave what it imports in sys.modules."""
    code = f"""
import contextlib, io, sys
from gsplatloc.cli import main
def run(words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as stop:
            print(stop.code, sorted(set({HEAVY}) & set(sys.modules)), file=sys.__stdout__)
    return said.getvalue()
for words in {COMMAND_LINES}:
    assert "usage: " in run([*words, "--help"])
for words in (["train", "-s"], ["track", "-s"], ["localize", "-m"], ["refine", "--poses", "poses.txt", "-m"]):
    other = ["-m", "out"] if words[-1] == "-s" else []
    said = run([*words, "no/such", *other])
    assert "check --source_path" in said or "found none: check the path" in said, said
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0 []"] * len(COMMAND_LINES) + ["1 []"] * 4


def test_wrong_paths_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """Every command's inputs and outputs, in one process."""
    (tmp_path / "map" / "point_cloud").mkdir(parents=True)
    for name in ("config.json", "cameras.json"):
        (tmp_path / "map" / name).write_text("{}")
    (tmp_path / "file").write_text("x")
    lines = [line.split() for line in WRONG_PATHS]
    code = f"""
import contextlib, io, sys
from gsplatloc.cli import main
for words in {lines}:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as stop:
            loaded = sorted(set({HEAVY}) & set(sys.modules))
            print(stop.code, loaded, said.getvalue().strip(), file=sys.__stdout__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    found = done.stdout.splitlines()
    assert len(found) == len(lines), done.stderr
    for words, line in zip(lines, found):
        assert line.startswith("1 [] error: expected "), (words, line)
        assert words[-1] in line or words[-1].startswith("file") and " file" in line, (words, line)


# The path that is wrong comes last. `file` is a file: no folder can be made in it.
WRONG_PATHS = [
    "map -m out no/photos",
    "map map -m file/out",
    "train -m out -s no/scene",
    "train -s map -m file/out",
    "train -s map -m out --start_checkpoint no/checkpoint",
    "track -m out -s no/scene",
    "track -s map -m file",
    "localize -m no/map",
    "localize -m map --queries no/photos",
    "localize -m map --output file/out",
    "refine -m map --poses no/poses.txt",
    "refine -m map --poses file --images no/photos",
    "refine -m map --poses file -s no/scene",
    "render -m no/map",
    "render -m map --poses no/poses.txt",
    "render -m map --output file/out",
    "view -m no/map",
    "view -m map --results no/results",
    "from-splat -m out no/splat.ply",
    "from-splat file -m out --cameras no/cameras.json",
    "from-splat file -m file/out",
    "compare no/results no/results",
    "export -m no/map",
    "export -m map --output file/a.spz",
    "export -m map --output map",
    "export -m map --map file/out",
    "reproduce gsplatloc-7scenes --output file/out",
    "reproduce gsplatloc-7scenes --data file/data",
    "reproduce gs-cpr --poses no/poses",
]


def test_a_flag_that_no_command_knows_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gsplatloc"])
    assert exit_code("train", "--no_such_flag") == 2


def test_the_module_runs_in_a_checkout() -> None:
    command = [sys.executable, "-m", "gsplatloc", "--version"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == f"gsplatloc {version()}\n"
