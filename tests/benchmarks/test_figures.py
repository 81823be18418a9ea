"""The tables of the documentation are those of the recorded results."""

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import RESULTS, figures
from benchmarks import __main__ as entry
from benchmarks.harness.results import read_rows
from benchmarks.performance.gate import BASELINE
from benchmarks.systems import every
from gsplatloc.utils.io import read_json


@pytest.mark.parametrize("name", [n for n in figures.PUBLISHERS if (RESULTS / f"{n}.json").is_file()])
def test_recorded_results_can_be_written_into_pages(name: str, pages: Path) -> None:
    figures.PUBLISHERS[name](read_rows(RESULTS / f"{name}.json"), pages)  # type: ignore[call-arg]
    assert "| --- |" in (pages / "docs" / "page.md").read_text()


def test_benchmarks_without_results_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["figures", "--names", "splats", "--results", str(tmp_path)])
    figures.main()
    assert capsys.readouterr().out.startswith("splats: left out")


def test_recorded_times_can_be_written_into_pages(pages: Path) -> None:
    figures.publish_performance(read_json(BASELINE)["full"], pages)
    assert "Whole mapping of" in (pages / "docs" / "page.md").read_text()


def test_recorded_results_are_small() -> None:
    for path in RESULTS.glob("*.json"):
        assert path.stat().st_size < 80_000, f"{path.name}: keep what tables and plots need"


MODULES = [module for of in (entry.COMMANDS, *entry.GROUPS.values()) for module, _ in of.values()]


@pytest.mark.parametrize("module", MODULES)
def test_every_command_has_a_main(module: str) -> None:
    assert callable(import_module(module).main)


def test_a_benchmark_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(every.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "systems", "all"])
    with pytest.raises(SystemExit) as stop:
        entry.main()
    said = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in said
    assert said.count("\n") == 1 and "expected the benchmark convergence to succeed" in said


def test_an_unknown_benchmark_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "magic"])
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == 2 and "accuracy" in capsys.readouterr().err
