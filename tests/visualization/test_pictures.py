"""Pictures of queries: which are chosen, and what is drawn where."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.queries import QueryImage
from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.visualization import images
from gsplatloc.visualization.pictures import QueryPicture, choose, draw_picture, make_pictures, write_pictures

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


def result(name: str, error_m: float, ok: bool = True) -> QueryResult:
    """A query whose camera centre is off by `error_m` metres, with three matches of which two agree."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = error_m
    matches = Matches(
        np.array([[8.0, 8], [30, 20], [50, 40]]), np.zeros((3, 3)), np.array([True, True, False])
    )
    status = Status.OK if ok else Status.NO_CONSENSUS
    estimate = PoseEstimate(status, CAMERA, pose if ok else None, 2, matches=matches)
    return QueryResult(name, Localization({"initial": estimate}), torch.eye(4, dtype=torch.float64))


def picture(**changes) -> QueryPicture:
    rng = np.random.default_rng(0)
    fields = dict(
        name="seq/frame 1.png",
        query=rng.integers(0, 255, (48, 64, 3), np.uint8),
        render=rng.integers(0, 255, (48, 64, 3), np.uint8),
        pixels=np.array([[10.0, 10.0], [40.0, 30.0]]),
        inliers=np.array([True, False]),
        translation_error_m=0.0123,
        rotation_error_deg=0.456,
    )
    return QueryPicture(**(fields | changes))


def one_gaussian() -> Gaussians:
    return Gaussians(
        means=torch.tensor([[0.0, 0, 2]]),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]),
        log_scales=torch.full((1, 3), -2.0),
        opacity_logits=torch.tensor([4.0]),
        sh=torch.ones(1, 1, 3),
        features=torch.zeros(1, 0),
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (5000, 2)])
def test_an_image_of_any_shape_is_drawn(shape: tuple[int, int]) -> None:
    query = np.zeros((*shape, 3), np.uint8)
    for render in (query, None):
        drawn = draw_picture(
            picture(query=query, render=render, pixels=np.zeros((0, 2)), inliers=np.zeros(0, bool))
        )
        assert drawn.shape[2] == 3 and min(drawn.shape[:2]) > 0


def test_the_worst_come_first_and_failures_before_all() -> None:
    results = [result(f"q{i}", 0.01 * i) for i in range(20)] + [result("lost", 0, ok=False)]
    chosen = choose(results)
    assert [r.name for kind, r in chosen if kind == "worst"] == ["lost", "q19", "q18", "q17", "q16"]


def test_unverified_queries_come_after_failures_and_before_errors() -> None:
    results = [result(f"q{i}", 0.01 * i) for i in range(20)] + [result("lost", 0, ok=False)]
    doubtful = result("doubtful", 0.001)
    results.append(replace(doubtful, localization=replace(doubtful.localization, verified=False)))
    assert [r.name for _, r in choose(results)][:3] == ["lost", "doubtful", "q19"]


def test_an_unverified_pose_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    blank = type("Result", (), {"rgb": torch.zeros(3, 48, 64)})
    monkeypatch.setattr("gsplatloc.visualization.pictures.render", lambda *_: blank)
    found = result("q", 0.1)
    found = replace(found, localization=replace(found.localization, verified=False))
    query = QueryImage("q", lambda: np.zeros((48, 64, 3), np.uint8), lambda: CAMERA)
    (drawn,) = make_pictures([query], [found], one_gaussian())
    assert drawn.caption == "unverified   ·   10 cm   0.000°   ·   2 of 3 matches agree"


def test_typical_queries_are_around_the_median() -> None:
    results = [result(f"q{i}", 0.01 * i) for i in range(21)]
    assert {r.name for kind, r in choose(results) if kind == "typical"} == {"q9", "q10", "q11"}


@pytest.mark.parametrize("count", [0, 1, 4, 6, 8, 9])
def test_no_query_is_chosen_twice(count: int) -> None:
    names = [r.name for _, r in choose([result(f"q{i}", 0.01 * i) for i in range(count)])]
    assert len(names) == len(set(names)) == min(count, 8)


def test_without_ground_truth_the_fewest_inliers_come_first() -> None:
    results = [result(f"q{i}", 0) for i in range(9)]
    estimates = [r.localization.stages["initial"] for r in results]
    unknown = [
        QueryResult(
            r.name,
            Localization({"initial": PoseEstimate(Status.OK, CAMERA, e.cam_from_world, inliers=10 * i)}),
        )
        for i, (r, e) in enumerate(zip(results, estimates))
    ]
    assert choose(unknown)[0][1].name == "q0"


def test_caption_gives_centimetres_and_degrees() -> None:
    assert picture().caption == "1.23 cm   0.456°   ·   1 of 2 matches agree"


def test_caption_of_a_failure_says_why() -> None:
    failed = picture(status="no_consensus", render=None, translation_error_m=float("inf"))
    assert failed.caption.startswith("failed: no consensus")


def test_inliers_are_green_and_outliers_red_where_they_are() -> None:
    drawn = draw_picture(picture(query=np.zeros((48, 64, 3), np.uint8)))
    scale = 560 / 64
    green, red = (drawn[int(y * scale), int(x * scale)].astype(int) for x, y in ((10, 10), (40, 30)))
    assert green[1] > 150 > green[0] and red[0] > 150 > red[1]


def test_a_failure_is_drawn_without_a_rendering() -> None:
    assert draw_picture(picture(render=None, status="no_consensus")).shape == draw_picture(picture()).shape


def test_equal_images_have_a_dark_difference() -> None:
    same = np.full((48, 64, 3), 90, np.uint8)
    assert images.colorize_difference(same, same).max() < 10


def test_written_pictures_replace_those_of_an_earlier_run(tmp_path: Path) -> None:
    write_pictures(tmp_path, [picture(), picture(name="b")])
    paths = write_pictures(tmp_path, [picture(kind="worst")])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["01_worst_seq_frame_1.png"]
    assert cv2.imread(str(paths[0])).shape[1] > 1600


def test_map_is_rendered_at_the_estimated_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    poses = []

    def fake_render(gaussians, camera, cam_from_world):
        poses.append(cam_from_world)
        return type("Result", (), {"rgb": torch.zeros(3, camera.height, camera.width)})

    monkeypatch.setattr("gsplatloc.visualization.pictures.render", fake_render)
    query = QueryImage("q", lambda: np.zeros((48, 64, 3), np.uint8), lambda: CAMERA)
    drawn = make_pictures([query], [result("q", 0.25)], one_gaussian())
    assert se3.camera_center(poses[0])[0].item() == pytest.approx(-0.25)
    assert drawn[0].translation_error_m == pytest.approx(0.25)
    assert drawn[0].inliers.sum() == 2


def test_matches_are_those_of_the_final_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refinement that states no matches is not drawn with those of the initial pose."""
    blank = type("Result", (), {"rgb": torch.zeros(3, 48, 64)})
    monkeypatch.setattr("gsplatloc.visualization.pictures.render", lambda *_: blank)
    found = result("q", 0.1)
    initial = found.localization.final
    two = Matches(np.array([[8.0, 8], [30, 20]]), np.zeros((2, 3)), np.array([True, False]))
    for matches, caption in ((two, "1 of 2 matches agree"), (None, "")):
        stages = {"initial": initial, "lm": replace(initial, matches=matches)}
        query = QueryImage("q", lambda: np.zeros((48, 64, 3), np.uint8), lambda: CAMERA)
        refined = QueryResult("q", Localization(stages), found.truth)
        (drawn,) = make_pictures([query], [refined], one_gaussian())
        assert drawn.caption.partition("   ·   ")[2] == caption


def test_dots_are_centred_on_the_pixel_coordinates() -> None:
    image = np.zeros((21, 21, 3), np.uint8)
    images.draw_dots(image, np.array([[10.5, 6.5]]), (255, 255, 255), radius=3)
    weights = image[..., 0].astype(float)
    y, x = np.mgrid[:21, :21] + 0.5
    assert (weights * x).sum() / weights.sum() == pytest.approx(10.5, abs=0.1)
    assert (weights * y).sum() / weights.sum() == pytest.approx(6.5, abs=0.1)


def test_unknown_depth_is_black_and_near_differs_from_far() -> None:
    depth = np.array([[0.0, 1.0, 5.0]])
    colors = images.colorize_depth(depth)
    assert colors[0, 0].max() == 0
    assert colors[0, 1, 0] > colors[0, 2, 0]  # near is red, far is blue


def test_equal_descriptors_get_equal_colours_in_every_view() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(16, 6, 8, generator=generator)
    colors = images.FeatureColors(features)
    np.testing.assert_array_equal(colors(features)[:, 2:], colors(features[:, :, 2:]))


def test_feature_colours_work_for_few_channels() -> None:
    features = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    assert images.FeatureColors(features)(features).shape == (6, 8, 3)
