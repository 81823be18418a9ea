"""The examples run in order, as the course says."""

import json
import runpy
from pathlib import Path

import matplotlib
import pytest

from gsplatloc.localization.refine import REFINERS

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("[0-9]*.py"))


@pytest.mark.filterwarnings("ignore")
def test_course_runs_from_start_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gsplatloc_kernels")
    # 07 registers a refiner: for this test only.
    monkeypatch.setattr(REFINERS, "_entries", {entry.name: entry for entry in REFINERS.entries()})
    said = {}
    for path in EXAMPLES:
        main = runpy.run_path(str(path))["main"]
        settings = {"06": {"frames": 3}}.get(path.name[:2], {})
        main(*([] if path.name.startswith("03") else [tmp_path]), **settings)
        said[path.name[:2]] = capsys.readouterr().out
    assert list(said) == ["01", "02", "03", "04", "05", "06", "07"]
    assert float(said["03"].split("found to ")[1].split()[0]) < 2  # millimetres
    assert "lm       ok" in said["05"]
    assert said["07"].splitlines()[1].startswith("flow")
    assert (tmp_path / "look" / "features" / "00002.png").is_file()
    run_notebook(tmp_path)


def run_notebook(course: Path) -> None:
    """Run the notebook's cells in order, in the room and the map that the scripts have made in `course`."""
    matplotlib.use("Agg")
    cells = json.loads((EXAMPLES[0].parent / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code), "the notebook is kept without outputs"
    script = "\n".join("".join(cell["source"]) for cell in code)
    (course / "tour.py").write_text(script.replace('"output/examples"', repr(str(course))), encoding="utf-8")
    named = runpy.run_path(str(course / "tour.py"))
    assert named["result"].status == "ok" and named["error"] < 0.02
    assert named["unknown"].final.camera.fx == pytest.approx(named["photo"].camera.fx, rel=0.05)
    assert len(named["axes"]) == len(named["shown"]) == 3


def test_readme_lists_every_example() -> None:
    text = (EXAMPLES[0].parent / "README.md").read_text()
    assert all(f"`{path.stem}`" in text for path in EXAMPLES) and "`tour.ipynb`" in text
