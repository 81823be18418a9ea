"""The page: figures beside published ones, averages, parts of splits, and all formats alike."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from gsplatloc.arguments.reproduce import ReproduceArguments
from gsplatloc.localization.evaluation import RECALL_THRESHOLDS
from gsplatloc.reproduction.figures import Cost, Row, averages
from gsplatloc.reproduction.page import Content, figures_csv, markdown, sections_of, write_page
from gsplatloc.reproduction.tables import TABLES

RECALL = dict.fromkeys(RECALL_THRESHOLDS, 0.75)


def content(folder: Path, rows: list[Row], test_images: int, **changes: object) -> Content:
    request = ReproduceArguments("gsplatloc-7scenes", output=folder).request()
    costs = [
        Cost(row.scene, "ours", 4000, test_images, 3.5, 2.0, 1.25, 0.5, 61.0, 2, "abc") for row in rows[:1]
    ]
    return replace(Content(request, rows, costs, {}, {"machine": "a <fast> one"}), **changes)


def text_of(made: Content) -> str:
    return markdown("title", sections_of(made))


def test_averages_are_means_of_medians_over_scenes() -> None:
    rows = [Row("chess", "ours", 100, 1, 1.0, 0.2, RECALL), Row("fire", "ours", 300, 0, 3.0, 0.6, RECALL)]
    (mean,) = averages(rows)
    assert (mean.cm, mean.deg, mean.count, mean.failed) == (2.0, pytest.approx(0.4), 400, 1)


def test_a_scene_of_which_half_failed_has_no_finite_average(tmp_path: Path) -> None:
    rows = [Row("chess", "ours", 10, 5, math.inf, math.inf, RECALL), Row("fire", "ours", 10, 0, 1, 1, RECALL)]
    assert averages(rows)[0].cm == math.inf
    made = content(tmp_path, rows, 2000)
    costs = [replace(made.costs[0], scene=scene) for scene in ("chess", "fire")]
    text = text_of(replace(made, costs=costs))
    assert "| **ours** | half failed | 1.00 / 1.00° | half failed (2 of 7 scenes) |" in text


def test_published_figures_stand_in_the_columns_of_their_scenes(tmp_path: Path) -> None:
    text = text_of(content(tmp_path, [Row("redkitchen", "ours", 5000, 0, 0.5, 0.1, RECALL)], 5000))
    assert "| method | redkitchen | average |" in text
    assert "| STDLoc (published) | 0.59 / 0.14° | 0.67 / 0.22° |" in text
    assert "| **ours** | 0.50 / 0.10° | 0.50 / 0.10° (1 of 7 scenes) |" in text
    assert "| STDLoc | repository of STDLoc" in text  # its source


@pytest.mark.parametrize(
    ("count", "images", "says"), [(2000, 2000, False), (500, 2000, True), (60, 60, True)]
)
def test_a_part_of_the_published_test_split_is_stated(
    tmp_path: Path, count: int, images: int, says: bool
) -> None:
    text = text_of(content(tmp_path, [Row("chess", "ours", count, 0, 1, 0.1, RECALL)], images))
    assert ("Not the published split" in text) == says
    assert (f"chess: {count} of 2,000 test images" in text) == says


def test_fewer_mapping_images_are_stated_too(tmp_path: Path) -> None:
    made = content(tmp_path, [Row("chess", "ours", 2000, 0, 1, 0.1, RECALL)], 2000)
    made = replace(made, costs=[replace(made.costs[0], mapping_images=175)])
    assert "chess: 175 of 4,000 mapping images" in text_of(made)


def test_failures_and_missing_scenes_are_stated(tmp_path: Path) -> None:
    text = text_of(content(tmp_path, [], 0, failures={"stairs": "the disk is full"}))
    assert "0 of 7 scenes are complete." in text and "stairs: failed: the disk is full" in text


def test_the_file_of_figures_holds_all_digits_and_no_times(tmp_path: Path) -> None:
    made = content(tmp_path, [Row("chess", "ours", 2000, 3, 1 / 3, 0.1, RECALL)], 2000)
    lines = list(csv.DictReader(io.StringIO(figures_csv(made))))
    assert float(lines[0]["cm"]) == 1 / 3 and lines[0]["failed"] == "3" and lines[0]["2cm_2deg"] == "0.75"
    slower = replace(made, costs=[replace(made.costs[0], query_ms=99.0, runs=7)], facts={"machine": "other"})
    assert figures_csv(slower) == figures_csv(made)
    published = [line for line in lines if line["source"]]
    assert {"ACE", "hloc (SP+SG)"} <= {line["method"] for line in published}


def test_all_formats_are_written_and_text_is_escaped(tmp_path: Path) -> None:
    write_page(content(tmp_path, [Row("chess", "ours", 2000, 0, 1, 0.1, RECALL)], 2000))
    page = (tmp_path / "table.html").read_text()
    assert "a &lt;fast&gt; one" in page and "<fast>" not in page and page.count("<table>") >= 5
    found = json.loads((tmp_path / "table.json").read_text())
    assert found["table"] == "gsplatloc-7scenes" and found["figures"][0]["cm"] == 1
    assert (tmp_path / "table.md").read_text().startswith("# GSplatLoc, 7-Scenes")
    assert "61.0" in (tmp_path / "costs.csv").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_whole(name: str) -> None:
    table = TABLES[name]
    assert table.scenes and len(set(table.scenes)) == len(table.scenes)
    assert table.published or name in ("gsplatloc-7scenes-original", "12scenes"), "no source was at hand"
    for item in table.published:
        assert item.source and set(item.recall) <= set(RECALL_THRESHOLDS)
        assert set(item.scenes) <= set(table.scenes) and (item.average or item.scenes or item.recall)
    assert table.data.setup or table.data.address  # downloaded, or a person is told where
