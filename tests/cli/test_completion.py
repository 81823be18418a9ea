"""What the shell completes: commands, data sets, the options of a command, and files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gsplatloc.cli import COMMANDS, main
from gsplatloc.cli.setup import COMMANDS as DATA_SETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    monkeypatch.setattr(sys, "argv", ["gsplatloc"])
    with pytest.raises(SystemExit):
        main(["completion"])
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    program = tmp_path / "gsplatloc"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gsplatloc "$@"\n')
    program.chmod(0o755)

    def replies(*words: str) -> set[str]:
        listed = " ".join(f"'{word}'" for word in words)
        lines = [f"source '{script}'", f"COMP_WORDS=({listed})", f"COMP_CWORD={len(words) - 1}", "_gsplatloc"]
        command = "\n".join([*lines, 'printf "%s\\n" "${COMPREPLY[@]}"'])
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        ended = subprocess.run(
            [bash, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert not ended.stderr
        return set(ended.stdout.split())

    return replies


def test_commands_and_data_sets_are_completed(complete) -> None:
    assert complete("gsplatloc", "") == set(COMMANDS)
    assert complete("gsplatloc", "loc") == {"localize"}
    assert complete("gsplatloc", "setup", "") == set(DATA_SETS)


def test_options_are_those_of_the_command(complete) -> None:
    assert {"--model_path", "--allowed_hosts"} <= complete("gsplatloc", "view", "--")
    assert complete("gsplatloc", "setup", "room", "--he") == {"--height", "--help"}


def test_other_words_are_left_to_the_shell_which_completes_files(complete) -> None:
    assert complete("gsplatloc", "view", "-m", "out") == set()
