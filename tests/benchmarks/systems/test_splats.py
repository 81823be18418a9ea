"""The comparison of maps of images with maps of their splats."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.measuring import Cost
from benchmarks.harness.results import read_rows
from benchmarks.systems import splats
from gsplatloc.arguments.export import parse_export_arguments
from gsplatloc.arguments.from_splat import parse_from_splat_arguments


def test_every_scene_with_a_map_gets_a_row_for_each_kind(
    room_map: Path, tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def map_of(kind: str, *_: object) -> tuple[Path, float | None]:
        made.append(kind)
        return room_map, None if kind == "images" else 90.0

    figures, initial = splats.figures, []

    def figures_of(*arguments: Any) -> dict[str, Any]:
        initial.append(arguments[4])
        return figures(*arguments[:4])  # so rough a map has nothing opaque for the learned matcher

    monkeypatch.setattr(splats, "map_of", map_of)
    monkeypatch.setattr(splats, "figures", figures_of)
    monkeypatch.setattr(splats, "is_metric", lambda scene: scene == room_map.name)
    results = tmp_path / "results.json"
    words = f"--maps {room_map.parent} --scenes {room_map.name} none --results {results} --no-publish"
    monkeypatch.setattr("sys.argv", ["splats", *words.split()])
    splats.main()
    rows = read_rows(results)
    assert [row["kind"] for row in rows] == list(splats.KINDS)
    assert made == list(splats.KINDS[:4]), "the learned matcher localizes in the map of the splat alone"
    assert initial == [None] * 4 + ["gsvisloc"]
    assert all(row["count"] == 6 and row["failed"] == 0 and row["final_median"] < 0.05 for row in rows)
    monkeypatch.setattr(splats, "figures", lambda *_: pytest.fail("measured again"))
    splats.main()
    splats.publish_splats(rows, pages)
    text = (pages / "docs" / "page.md").read_text()
    assert f"| {room_map.name} | splat alone |" in text and "| 1.5 |" in text
    assert f"{100 * rows[0]['final_median']:.2f} cm" in text


def test_photographs_seen_in_training_are_marked() -> None:
    assert splats.trained_on("colmap_south_building") and splats.trained_on("nerf_fox")
    assert not splats.trained_on("pgt_7scenes_redkitchen") and not splats.trained_on("hololens_office")


def test_a_small_map_has_the_landmarks_of_the_full_one(room_map: Path, tmp_path: Path) -> None:
    folder, _ = splats.map_of("images, small map", room_map, tmp_path)
    name = "landmarks.safetensors"
    assert (folder / name).read_bytes() == (room_map / name).read_bytes()
    assert not list(folder.rglob("features.safetensors"))


def test_only_the_standard_properties_reach_the_map_of_a_splat(
    room_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def run_gsplatloc(words: list[object], log: Path) -> Cost:
        started.append([str(word) for word in words[1:]])
        return Cost(99.0, 0, 60.0)

    monkeypatch.setattr(splats, "run_gsplatloc", run_gsplatloc)
    with_cameras = splats.map_of("splat, known cameras", room_map, tmp_path)
    alone = splats.map_of("splat alone", room_map, tmp_path)
    assert with_cameras[1] == 60.0 and with_cameras[0] != alone[0]
    exported = parse_export_arguments(started[0])
    assert exported.model_path == room_map and exported.format_name() == "ply"
    for words, cameras in ((started[1], room_map / "cameras.json"), (started[3], None)):
        arguments = parse_from_splat_arguments(words)
        assert arguments.splat == exported.path() and arguments.cameras == cameras
