"""Given poses of exactly the stated error, images in another light, and a small real run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.harness.results import read_rows
from benchmarks.systems import refinement
from benchmarks.systems.refinement import NOISE, given_queries, in_other_light, moved
from gsplatloc.scene.cameras import Camera, View
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import pose_errors

TRUTH = se3.se3_exp(torch.tensor([0.3, -0.2, 0.5, 0.1, -0.3, 0.2], dtype=torch.float64))
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
VIEWS = [
    View(name, Camera(8, 6, 8.0, 8.0, 4.0, 3.0), TRUTH, Path(), lambda: IMAGE) for name in ("a.png", "b.png")
]


@pytest.mark.parametrize(("centimetres", "degrees"), NOISE.values())
def test_poses_are_off_by_exactly_the_stated_error(centimetres: float, degrees: float) -> None:
    pose = moved(TRUTH, centimetres, degrees, torch.Generator().manual_seed(0))
    translation_m, rotation_deg = pose_errors(pose, TRUTH)
    assert 100 * translation_m == pytest.approx(centimetres)
    assert rotation_deg == pytest.approx(degrees)


def test_a_view_has_the_same_given_pose_in_every_selection() -> None:
    both, one = (given_queries(views, "20cm_10deg", Path()) for views in (VIEWS, VIEWS[1:]))
    poses = [query.given_pose for query in (*both, *one)]
    assert poses[0] is not None and poses[1] is not None and poses[2] is not None
    assert torch.equal(poses[1], poses[2])
    assert not torch.allclose(poses[0], poses[1])


def test_an_image_has_the_same_light_in_every_run_and_another_than_others() -> None:
    first, again, other = (in_other_light(VIEWS[i]).load_image() for i in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(VIEWS[0].load_image(), IMAGE)


def test_another_light_keeps_the_order_of_each_colour() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    view = View("a.png", Camera(256, 1, 8.0, 8.0, 4.0, 3.0), TRUTH, Path(), lambda: ramp)
    changed = in_other_light(view).load_image().astype(int)
    assert (np.diff(changed, axis=1) >= 0).all()
    assert len({tuple(column) for column in changed[0].T}) == 3


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["refinement", *words.split()])
    refinement.main()


def test_an_unknown_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GSplatLocError, match="see --given"):
        run(monkeypatch, "--given 1mm")


def test_given_poses_and_colours_are_refined_once(
    room_map: Path, tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = "mutual, 2 rounds"
    monkeypatch.setattr(refinement, "VARIANTS", {variant: refinement.VARIANTS[variant]})
    monkeypatch.setattr(refinement, "get_args", lambda _: ("affine",))
    results = tmp_path / "results.json"
    words = f"--map {room_map} --act {room_map} --given 5cm_2deg retrieval --queries 1 --results {results}"
    run(monkeypatch, f"{words} --no-publish")
    rows = read_rows(results)
    assert [row["part"] for row in rows] == ["poses"] * 2 + ["exposure"] * 4
    assert rows[0]["given_median_m"] == 0.05 and rows[0]["median_ms"] is None
    assert all(row["psnr"] > 5 for row in rows[2:])
    monkeypatch.setattr(refinement, "refined", lambda *_: pytest.fail("measured again"))
    run(monkeypatch, f"{words} --no-publish")
    refinement.publish_refinement(rows, pages)
    text = (pages / "docs" / "page.md").read_text()
    assert (
        "| 5cm_2deg (5.0 cm, 2.0°) | mutual, 2 rounds | 1 |" in text
        and "| other light | plain | affine |" in text
    )


def test_times_are_those_of_timed_runs(
    room_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = "mutual, 1 round"
    monkeypatch.setattr(refinement, "VARIANTS", {variant: refinement.VARIANTS[variant]})
    words = f"--map {room_map} --given 5cm_2deg --queries 1 --no-publish --results {tmp_path / 'r.json'}"
    run(monkeypatch, words)
    run(monkeypatch, f"{words} --timed")
    (row,) = read_rows(tmp_path / "r.json")
    assert row["median_ms"] > 0
