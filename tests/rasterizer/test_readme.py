"""The example in the native package's README runs and does what it says."""

import re
import runpy
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "submodules" / "diff-gaussian-rasterization" / "README.md"


def test_the_example_recovers_the_pose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert abs(float(capsys.readouterr().out.split()[0])) < 5  # millimetres
