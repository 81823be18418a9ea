"""What gpu.sh's report makes of the files that its steps leave."""

from pathlib import Path

import pytest

from benchmarks.gpu.report import gather, goals
from gsplatloc.utils.io import write_json


def test_the_report_has_the_outcome_and_the_figures_of_each_step(tmp_path: Path) -> None:
    write_json(tmp_path / "train.step.json", {"exit_code": 1, "seconds": 3})
    write_json(tmp_path / "train.json", {})
    report = gather(tmp_path, "gpu.sh train")
    assert report["steps"] == {"train": {"exit_code": 1, "seconds": 3}} and report["train"] == {}


def test_goals_stand_beside_what_was_found() -> None:
    ours, peer = {"forward_ms": 1.0, "total_ms": 2.0}, {"forward_ms": 3.0, "total_ms": 8.0}
    case = {"ours": ours, "peer": peer, "speedup_forward": 3.0, "speedup_total": 4.0}
    cases = {name: case for name in ("rgb", "rgb + depth + 64 features")}
    cases["rgb + depth + 64 features, tf32"] = {"ours": {"total_ms": 1.0}, "peer": None}  # type: ignore[dict-item]
    result = {"scene": "cube-1M", "size": "640x480", "cases": cases}
    run = {"seconds": {"training": 50.0}, "quality": None, "peak_reserved_gb": 2.0}
    rows = goals({"raster": {"results": [result]}, "train": {"map": run}})
    assert rows["rgb forward, times gsplat, cube-1M 640x480"]["found"] == 3.0
    assert rows["rgb + depth + 64 features, times gsplat, cube-1M 640x480"]["found"] == 4.0
    assert rows["the same in tf32, cube-1M 640x480"]["found"] == pytest.approx(8.0)
    assert rows["training seconds, map"]["found"] == 50.0 and rows["PSNR dB, map"]["found"] is None
