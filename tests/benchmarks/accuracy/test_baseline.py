"""What the wrapper of the sparse baseline adds to the file that its script writes."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import baseline

_SCRIPT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np


def extract(model, view):
    view["features"] = sum(range(200_000))


def localize(query, views):
    assert "features" in query
    return None if query["lost"] else SimpleNamespace(R=np.eye(3), t=np.array([0.0, 0.0, 0.5]))


def main():
    queries = [dict(lost=lost, R=np.eye(3), center=np.zeros(3)) for lost in (False, True)]
    for query in queries:
        extract(None, query)
        localize(query, [])
    Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({"count": 2}))
"""


def test_errors_and_time_of_every_query_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, output = tmp_path / "script.py", tmp_path / "out.json"
    script.write_text(_SCRIPT)
    monkeypatch.setattr(sys, "argv", ["baseline", str(script), "SCENE", "--json", str(output)])
    baseline.main()
    found = json.loads(output.read_text())
    assert found["count"] == 2 and found["errors"] == [[0.5, 0.0], [None, None]]
    assert len(found["cpu_ms"]) == 2 and min(found["cpu_ms"]) > 1.0
