"""What gpu.sh's report makes of the files that its steps leave."""

from pathlib import Path

import pytest

from benchmarks.gpu.report import gather, goals, sanitizer_summaries
from gsplatloc.utils.io import write_json, write_text

LOG = """== memcheck
========= ERROR SUMMARY: 0 errors
== memcheck exited with 0
== racecheck
========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)
== racecheck exited with 9
== synccheck
"""


def test_sanitizers_are_summed_up_and_one_that_was_cut_off_is_left_out() -> None:
    found = sanitizer_summaries(LOG)
    assert set(found) == {"memcheck", "racecheck"}
    assert found["memcheck"] == {"exit_code": 0, "summary": "ERROR SUMMARY: 0 errors"}
    assert found["racecheck"]["exit_code"] == 9 and "2 hazards" in found["racecheck"]["summary"]


def test_failed_tests_are_named(tmp_path: Path) -> None:
    xml = '<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0">'
    xml += '<testcase classname="a" name="b"><failure/></testcase><testcase classname="a" name="c"/>'
    write_text(tmp_path / "test.xml", xml + "</testsuite></testsuites>")
    write_json(tmp_path / "test.step.json", {"exit_code": 1, "seconds": 3})
    report = gather(tmp_path, "gpu.sh test")
    assert report["tests"]["failed"] == ["a::b"] and report["tests"]["tests"] == 2
    assert report["steps"] == {"test": {"exit_code": 1, "seconds": 3}}


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
