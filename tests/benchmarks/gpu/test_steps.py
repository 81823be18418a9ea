"""The steps of gpu.sh in their dry runs, on the CPU."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import mapping, raster


def run(monkeypatch: pytest.MonkeyPatch, module: object, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", *words.split()])
    module.main()  # type: ignore[attr-defined]


def test_rendering_is_timed_beside_its_roofline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(raster, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(raster, "_COPIED_BYTES", {"cpu": 1 << 20})
    words = f"--device cpu --scenes cube-500 --sizes 64x48 --repeats 1 --json {tmp_path / 'raster.json'}"
    run(monkeypatch, raster, words)
    (result,) = json.loads((tmp_path / "raster.json").read_text())["results"]
    assert result["scene"] == "cube-500" and result["size"] == "64x48"
    assert "rgb + 64 features, full size, forward" in result["feature_splatting"]
    assert all(row["ours"]["total_ms"] > 0 and row["peer"] is None for row in result["cases"].values())


def test_a_map_is_made_and_localized_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mapping, "RUNS", {"map": "--preset gpu"})
    for step in ("train", "localize"):
        run(monkeypatch, mapping, f"--step {step} --scene x --work {tmp_path} --device cpu --dry_run")
    train, localize = (json.loads((tmp_path / f"{step}.json").read_text()) for step in ("train", "localize"))
    assert train["map"]["images"] == 8
    assert list(localize) == ["initial", "initial fine", "initial fine warp", "initial lm", "initial fine lm"]
