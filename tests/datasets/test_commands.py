"""What the set-up commands have in common."""

import sys
from importlib import import_module

import pytest

from gsplatloc.cli.setup import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_names_the_subcommand(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["datasets/script.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        import_module(COMMANDS[name][0]).main()
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: gsplatloc setup {name} ")
