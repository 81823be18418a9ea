"""Mapping and localization on a GPU, in a dry run on the CPU."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import mapping


def test_a_map_is_made_and_localized_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mapping, "RUNS", {"map": "--preset gpu"})
    for step in ("train", "localize"):
        words = f"--step {step} --scene x --work {tmp_path} --device cpu --dry_run"
        monkeypatch.setattr(sys, "argv", ["mapping", *words.split()])
        mapping.main()
    train, localize = (json.loads((tmp_path / f"{step}.json").read_text()) for step in ("train", "localize"))
    assert train["map"]["images"] == 8
    assert list(localize) == ["initial", "initial fine", "initial fine warp", "initial lm", "initial fine lm"]
