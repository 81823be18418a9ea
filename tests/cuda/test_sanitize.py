"""The passes for compute-sanitizer run on the CPU, too."""

import pytest

from tests.cuda import sanitize


def test_passes_of_every_kind_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sanitize, "PASSES", sanitize.PASSES[:3])
    monkeypatch.setattr("sys.argv", ["sanitize", "--device", "cpu"])
    sanitize.main()
    assert capsys.readouterr().out.endswith("all passes ran\n")
