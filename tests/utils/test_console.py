"""Exit codes and one-line errors."""

import os
from pathlib import Path

import pytest

from gsplatloc.utils.console import ProgressBar, counted, figures, progress, run_script, stopwatch
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text


def raising(error: BaseException) -> None:
    raise error


def test_a_script_that_ran_exits_with_zero() -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: None)
    assert stop.value.code == 0


def test_a_users_error_is_one_line_and_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: raising(GSplatLocError("expected a,\n found b")))
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: expected a, found b\n"


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("no folder")
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: write_text(tmp_path / "out" / "metrics.json", ""))
    assert stop.value.code == 1
    captured = capsys.readouterr().err
    assert captured.startswith("error: ") and str(tmp_path / "out") in captured and captured.count("\n") == 1


def test_other_system_errors_are_bugs() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_script(lambda: os.close(9999))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: raising(ZeroDivisionError()))


def test_an_interrupted_script_exits_as_shells_expect() -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: raising(KeyboardInterrupt()))
    assert stop.value.code == 130


def test_a_bar_with_its_note_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    with ProgressBar(3600, "training", initial=3598) as bar:
        bar.advance("PSNR 23.6 dB")
        bar.advance()
    drawn = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert drawn.endswith("PSNR 23.6 dB]") and len(drawn) < 80 and drawn.count("█") >= 5


def test_a_step_without_progress_shows_its_seconds_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopwatch("triangulating"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with pytest.raises(ValueError, match="of the step"), stopwatch("triangulating"):
        raise ValueError("of the step")
    assert "triangulating: 00:00" in capsys.readouterr().err


def test_one_of_a_kind_is_singular() -> None:
    assert [counted(1, "query", "queries"), counted(0, "image")] == ["1 query", "0 images"]


def test_progress_yields_everything() -> None:
    assert list(progress(iter("abc"), total=3, desc="letters", quiet=True)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.5, 3, "1234"),
        (999.7, 3, "1000"),
        (120.0, 2, "120"),
        (0.0000123, 3, "0.0000123"),
        (2.50, 3, "2.5"),
        (-0.04567, 2, "-0.046"),
        (0.0, 3, "0"),
        (float("inf"), 3, "inf"),
    ],
)
def test_figures_have_no_exponent(value: float, digits: int, text: str) -> None:
    assert figures(value, digits) == text
