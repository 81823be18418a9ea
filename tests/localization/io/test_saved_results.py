"""Saved results of queries are the same when they are read again: errors, statuses and files of results."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.results import write_results
from gsplatloc.localization.io.saved_results import load_results, save_results
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(64, 48, 60.1, 60.2, 32.3, 24.4)


@pytest.fixture
def results() -> list[QueryResult]:
    generator = torch.Generator().manual_seed(3)
    poses = [se3.se3_exp(torch.randn(6, generator=generator, dtype=torch.float64)) for _ in range(3)]
    covariance = torch.rand(6, 6, generator=generator, dtype=torch.float64) / 3
    first = PoseEstimate(Status.OK, CAMERA, poses[0], 7, covariance, elapsed_ms=1 / 3, distortion=-0.1)
    last = replace(first, cam_from_world=poses[1], accepted=False, information=covariance * 7)
    failed = PoseEstimate(Status.NO_CONSENSUS, CAMERA)
    return [
        QueryResult("a/1.png", Localization({"initial": first, "lm": last}, 0.1, True, 0.7, 0.3), poses[2]),
        QueryResult("a/2.png", Localization({"initial": failed}, verified=False), poses[2]),
        QueryResult("ü 3.png", Localization({"initial": failed}, verified=False), None, "cut short"),
    ]


def test_every_file_of_results_is_the_same(results: list[QueryResult], tmp_path: Path) -> None:
    save_results(tmp_path / "saved.json", results)
    read = load_results(tmp_path / "saved.json")
    for folder, found in (("a", results), ("b", read)):
        (tmp_path / folder).mkdir()
        write_results(tmp_path / folder, "room", found[:2], 10, ("initial", "lm"))
    for name in ("metrics.json", "poses.txt", "per_query.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert [(r.name, r.reason, r.localization.status) for r in read] == [
        (r.name, r.reason, r.localization.status) for r in results
    ]


def test_numbers_keep_their_bits(results: list[QueryResult], tmp_path: Path) -> None:
    save_results(tmp_path / "saved.json", results)
    first, read = results[0].localization.final, load_results(tmp_path / "saved.json")[0].localization.final
    for name in ("cam_from_world", "covariance", "information"):
        assert torch.equal(getattr(first, name), getattr(read, name)), name
    assert read.camera_covariance is None and read.camera == CAMERA and read.elapsed_ms == first.elapsed_ms


def test_a_covariance_that_is_not_finite_stays_so(results: list[QueryResult], tmp_path: Path) -> None:
    estimate = replace(results[0].localization.final, covariance=torch.full((6, 6), torch.inf))
    save_results(tmp_path / "saved.json", [QueryResult("a", Localization({"initial": estimate}))])
    read = load_results(tmp_path / "saved.json")[0].localization.final
    assert read.covariance is not None and not read.covariance.isfinite().any()


@pytest.mark.parametrize("text", ["[1, 2]", '[{"name": "a"}]', "null", "[", '[{"stages": 3}]'])
def test_another_file_is_a_users_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "saved.json").write_text(text)
    with pytest.raises(GSplatLocError, match=r"saved\.json"):
        load_results(tmp_path / "saved.json")
