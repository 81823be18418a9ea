"""Damaged files and hostile calls, from fixed seeds; `make fuzz` goes on for as long as wanted."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.scene.map_config import longest_side, read_cameras, read_config
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.transforms import TransformsReader
from gsplatloc.utils.errors import GSplatLocError
from tests.fuzz.case import Case
from tests.fuzz.readers import TARGETS

ROOT = Path(__file__).parents[2]
EACH = ("--inputs", "120", "--seconds", "2")
# Examples follow from the test's name, so that every run is the same.
FIXED = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
KEYS = ["format", "scene", "source_path", "top_k", "img_name", "position", "rotation", "width", "fx"]
KEYS += ["frames", "file_path", "w", "h", "transform_matrix", "fl_x", "camera_model", "train_filenames"]
RECORD = st.dictionaries(st.sampled_from(KEYS), JSON | st.lists(st.dictionaries(st.sampled_from(KEYS), JSON)))


@pytest.fixture(scope="module")
def report() -> list[dict[str, Any]]:
    """What one run over all readers prints; each reader gets a process with limits of its own."""
    command = [sys.executable, "-m", "tests.fuzz", *EACH]
    lines = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_read_or_refused_in_one_line(name: str, report: list[dict[str, Any]]) -> None:
    entries = [entry for entry in report if entry["reader"] == name]
    assert [entry["fault"] for entry in entries if "fault" in entry] == []
    assert any(entry["inputs"] >= 1 for entry in entries if "inputs" in entry)


@pytest.mark.parametrize("name", ["transforms", "posed_folders", "map"])
def test_what_an_input_changed_is_put_back_for_the_next(tmp_path: Path, name: str) -> None:
    case = Case(TARGETS[name], tmp_path)
    damaged = sum(case.damage(random.Random(number)) for number in range(100))
    assert damaged > 90 and case.untouched()
    (case.root / "new").touch()
    assert case.untouched() == TARGETS[name].alone  # whose folder is written anew


def test_a_recorded_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    record, entries = tmp_path / "record.json", []
    for inputs in ("20", "50"):
        command = [sys.executable, "-m", "tests.fuzz", "tiles", "--inputs", inputs, "--record", str(record)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        entries.append(json.loads(record.read_text())["tiles"])
    first, second = entries
    assert (first["inputs"], second["inputs"]) == (20, 50)
    assert 0 < first["next"] < second["next"] and second["faults"] == 0


@given(content=RECORD | st.lists(RECORD, max_size=2) | JSON)
@FIXED
def test_any_json_is_read_or_refused(tmp_path: Path, content: Any) -> None:
    for name in ("config.json", "cameras.json", "transforms.json"):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    readers = (
        read_config,
        read_cameras,
        longest_side,
        lambda path: TransformsReader().read(path, SceneOptions()),
    )
    for read in readers:
        try:
            read(tmp_path)
        except GSplatLocError as error:
            assert str(error).isprintable() and len(str(error)) < 600 + 2 * len(str(tmp_path))


@given(words=st.lists(st.text(max_size=6) | st.floats().map(str) | st.integers().map(str), max_size=20))
@FIXED
def test_any_pose_file_is_read_or_refused(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "poses.txt").write_text(" ".join(words), encoding="utf-8")
    try:
        read_pose_file(tmp_path / "poses.txt", ["a.png"])
    except GSplatLocError as error:
        assert str(error).isprintable() and len(str(error)) < 600 + 2 * len(str(tmp_path))
