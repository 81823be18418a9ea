"""The accuracy benchmark as a whole, on a part of the synthetic room, without the baseline."""

import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import command, measure
from benchmarks.harness.results import read_rows
from gsplatloc.utils.errors import GSplatLocError


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy", *words.split()])
    command.main()


def test_a_scene_is_measured_once_and_a_failing_one_does_not_stop_the_others(
    room_scene: Path, room_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, results = tmp_path / "data", tmp_path / "results.json"
    (data / "broken").mkdir(parents=True)
    (data / "room").symlink_to(room_scene)
    options = f"--data {data} --maps {room_map.parent} --results {results} --output {tmp_path / 'out'}"
    options += " --chains initial+lm --baselines --ablation --queries 2 --no-publish"
    with pytest.raises(GSplatLocError, match="found 1 failed: broken"):
        run(monkeypatch, f"--scenes broken:first60 room {options}")
    (row,) = read_rows(results)
    assert row["scene"] == "room" and row["chains"][0]["count"] == 2
    assert row["chains"][0]["final"]["median_translation_m"] < 0.05
    assert len(row["chains"][0]["errors_m"]["lm"]) == 2
    monkeypatch.setattr(command, "measure_scene", lambda *_: pytest.fail("measured again"))
    run(monkeypatch, f"--scenes room {options}")


def test_fewer_landmarks_and_keypoints_are_variants_of_the_initial_pose(room_map: Path) -> None:
    from gsplatloc.localization.queries import query_from_view
    from gsplatloc.scene import read_scene
    from gsplatloc.scene.map_config import read_config

    config = read_config(room_map)
    queries = [query_from_view(view) for view in read_scene(config.source_path, config.scene).test[:1]]
    rows = measure.ablations(room_map, queries)
    assert [row["label"] for row in rows[:4]] == [
        "default",
        "512 keypoints",
        "1024 keypoints",
        "4096 keypoints",
    ]
    found = measure.rejection(room_map, queries)
    assert found == {"photos": 1, "accepted": 1, "accepted_unknown_focal": found["accepted_unknown_focal"]}


@pytest.mark.parametrize("flags", ["--chains initial+magic", "--baselines magic", "--scenes nowhere"])
def test_arguments_that_would_fail_later_fail_now(
    flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GSplatLocError, match="magic|nowhere"):
        run(monkeypatch, f"{flags} --data {tmp_path}")
