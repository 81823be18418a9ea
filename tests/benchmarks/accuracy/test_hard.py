"""The benchmark of hard queries: what is held out, the rows of its cases, and its table."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import hard
from benchmarks.accuracy.hard import columns, hard_table, publish_hard, queries_of
from benchmarks.harness.results import Row, read_rows
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.utils.errors import GSplatLocError


def test_stretches_and_single_views_are_held_out_apart_from_each_other() -> None:
    held = hard.held_out(175)
    assert [len(held[case]) for case in ("stretch10", "stretch20")] == [20, 20]
    assert held["stretch10"][:10] == list(range(23, 33))
    taken = [index for indices in held.values() for index in indices]
    assert len(set(taken)) == len(taken) and max(taken) < 175
    assert 15 <= len(held["plain"]) <= 24


def test_a_small_scene_has_no_stretches() -> None:
    held = hard.held_out(50)
    assert held["stretch10"] == held["stretch20"] == [] and len(held["plain"]) == 6


def test_images_that_a_layout_without_a_split_tests_with_are_neither_mapped_nor_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out: list[bool] = []

    def read(folder: Path, options: SceneOptions) -> None:
        held_out.append(options.eval)
        raise GSplatLocError("enough")

    monkeypatch.setattr(hard, "read_scene", read)
    (tmp_path / "split" / "train").mkdir(parents=True)
    (tmp_path / "colmap").mkdir()
    for name in ("split", "colmap"):
        with pytest.raises(GSplatLocError, match="enough"):
            hard.make_scene(tmp_path, name, tmp_path / "out", 0)
    assert held_out == [False, True]


def test_every_case_is_a_row_and_a_measured_one_stays(
    room_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, results = tmp_path / "data", tmp_path / "hard.json"
    data.mkdir()
    (data / "room").symlink_to(room_scene)
    flags = f"--data {data} --results {results} --output {tmp_path / 'out'} --iterations 40"

    def run(words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["hard", "--scenes", "room", "--methods", "ours", *words.split()])
        hard.main()

    run(f"{flags} --cases plain turned90")
    rows = read_rows(results)
    assert [row["case"] for row in rows] == ["plain", "turned90"]
    assert all(len(queries_of(row)) == 3 for row in rows)
    assert rows[0]["queries"]["metres"][0] < 0.1 and rows[0]["queries"]["ms"][0] > 0
    assert len(list((tmp_path / "out" / "room" / "chosen" / "test" / "rgb").iterdir())) == 6
    scene = read_scene(tmp_path / "out" / "room" / "scene", SceneOptions())
    assert len(scene.train) == 21 and len(scene.test) == 3 * len(hard.CONDITIONS)
    assert scene.train[0].load_depth is not None and scene.test[0].load_depth is None
    monkeypatch.setattr(hard, "measure", lambda *_: pytest.fail("measured again"))
    run(f"{flags} --cases plain turned90")


@pytest.mark.parametrize("flags", ["--methods magic", "--cases magic"])
def test_an_unknown_method_or_case_is_one_line(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hard", *flags.split()])
    with pytest.raises(GSplatLocError, match="found 'magic'"):
        hard.main()


def query(metres: float | None, degrees: float | None, ok: bool = True, ratio: float = 1.0) -> Row:
    return {"metres": metres, "degrees": degrees, "ok": ok, "ms": 50.0, "ratio": ratio,
            "stated_m": 0.01, "stated_deg": 1.0}  # fmt: skip


def cells(rows: list[Row]) -> dict[tuple[str, str], list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in hard_table(rows).splitlines()]
    return {(line[0], line[1]): line[3:] for line in lines if len(line) > 3}


def test_the_table_counts_false_poses_and_those_within_their_stated_errors() -> None:
    queries = [query(0.02, 0.5), query(0.08, 0.5), query(0.4, 1.0, ratio=4.0), query(None, None, ok=False)]
    rows = [
        {"scene": "a", "case": "plain", "method": "ours", "queries": columns(queries)},
        {
            "scene": "a",
            "case": "foreign",
            "method": "ours",
            "queries": columns([query(9.0, 90.0), query(9.0, 9.0, False)]),
        },
        {"scene": "a", "case": "stretch10", "method": "ours", "queries": columns([])},
    ]
    found = cells(json.loads(json.dumps(rows)))
    #                       queries  10 cm      5 cm      accepted falsely
    assert found["a", "plain"][:5] == ["4", "50.0 %", "25.0 %", "3", "1"]
    assert found["a", "plain"][6] == "33.3 %"
    assert found["a", "foreign"][:5] == ["2", "–", "–", "1", "1"]
    assert found["a", "4x nearest"][:5] == ["1", "0.0 %", "0.0 %", "1", "1"]
    assert found["all", "all"][:5] == ["6", "50.0 %", "25.0 %", "4", "2"]


def test_subsets_by_distance_are_left_out_for_methods_that_were_not_run_on_all_of_their_cases() -> None:
    far = columns([query(0.02, 0.5, ratio=2.0)])
    cases = [
        ("plain", "ours"),
        ("stretch20", "ours"),
        ("stretch20", "mutual"),
        ("plain", "disk"),
        ("stretch20", "disk"),
    ]
    rows = [{"scene": "a", "case": case, "method": method, "queries": far} for case, method in cases]
    rows.append({"scene": "b", "case": "plain", "method": "mutual", "queries": far})
    lines = [[cell.strip() for cell in line.split("|")[1:5]] for line in hard_table(rows).splitlines()]
    subsets = [line for line in lines if line[1:2] == ["2x nearest"]]
    assert subsets == [
        ["a", "2x nearest", "ours", "2"],
        ["a", "2x nearest", "disk", "2"],
        ["b", "2x nearest", "mutual", "1"],
    ]


def test_the_table_can_be_written_into_a_page(pages: Path) -> None:
    row = {"scene": "a", "case": "plain", "method": "ours", "queries": columns([query(0.02, 0.5)]),
           "machine": "2 threads on X", "commit": "1234567"}  # fmt: skip
    publish_hard([row], pages)
    page = (pages / "docs" / "page.md").read_text()
    assert "| a | plain | ours | 1 | 100.0 % |" in page and "commit 1234567" in page
