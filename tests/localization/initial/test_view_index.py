"""Retrieval over rendered views: the right one is found, virtual ones are seeded and stand where one can."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.features import Features, Keypoints
from gsplatloc.localization.initial import virtual_views as virtual
from gsplatloc.localization.initial.members import RetrievalOptions
from gsplatloc.localization.initial.retrieval import RetrievedPose
from gsplatloc.localization.initial.view_index import (
    FILE_NAME,
    ViewIndex,
    ViewIndexOptions,
    build_index,
    cached_index,
    index_key,
    load_index,
    pool,
    save_index,
    vocabulary,
)
from gsplatloc.localization.initial.virtual_views import virtual_views
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.rendered_room import make_gaussians
from tests.localization.world import pose_errors

CAMERA = Camera(160, 120, 131.0, 132.0, 79.0, 61.0)
OPTIONS = ViewIndexOptions(words=8)


class PatchExtractor:
    """Describes each cell of 8 x 8 pixels by its grey values."""

    version = "patches-1"
    top_k = 10

    def extract(self, image: np.ndarray) -> Features:
        grey = torch.from_numpy(np.ascontiguousarray(image)).float().mean(2)[None]
        cells = F.pixel_unshuffle(grey, 8)
        dense = F.normalize(cells - cells.mean(0), dim=0)
        return Features(Keypoints(torch.zeros(0, 2), torch.zeros(0, 64), torch.zeros(0)), dense)


def _view(x: float, turn: float) -> PosedCamera:
    xi = torch.tensor([x, 0.0, 0.3, 0.0, turn, 0.0], dtype=torch.float64)
    return PosedCamera(CAMERA, se3.se3_exp(xi))


VIEWS = [_view(x, turn) for x, turn in ((-0.6, -0.3), (-0.3, -0.15), (0.0, 0.0), (0.3, 0.15), (0.6, 0.3))]


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    return make_gaussians()


@pytest.fixture(scope="module")
def index(gaussians: Gaussians) -> ViewIndex:
    return build_index(gaussians, VIEWS, PatchExtractor(), OPTIONS)  # type: ignore[arg-type]


def _photo(gaussians: Gaussians, view: PosedCamera) -> Query:
    with torch.no_grad():
        rgb = render(gaussians, view.camera, view.cam_from_world, RenderOptions()).rgb
    image = (rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    features = PatchExtractor().extract(image)
    return Query(image, view.camera, features.keypoints, features.dense)


@pytest.mark.parametrize("number", range(5))
def test_a_view_finds_itself(gaussians: Gaussians, index: ViewIndex, number: int) -> None:
    found, cosine = index.nearest(_photo(gaussians, VIEWS[number]).dense, 2)
    assert found[0] == number
    assert cosine[0] > cosine[1]


def test_a_photo_nearby_starts_at_the_nearest_view(gaussians: Gaussians, index: ViewIndex) -> None:
    query = _photo(gaussians, _view(0.27, 0.14))
    starts = RetrievedPose(index, gaussians).hypotheses(query)
    assert torch.equal(starts[0].pose(), VIEWS[3].cam_from_world)
    assert starts[0].ok
    assert starts[0].covariance is None


def test_as_many_starts_are_kept_as_asked_for(gaussians: Gaussians, index: ViewIndex) -> None:
    provider = RetrievedPose(index, gaussians, RetrievalOptions(kept=2))
    assert len(provider.hypotheses(_photo(gaussians, VIEWS[0]))) == 2


def test_virtual_views_are_added_behind_the_mapping_views(gaussians: Gaussians) -> None:
    options = replace(OPTIONS, virtual_views=4)
    built = build_index(gaussians, VIEWS, PatchExtractor(), options)  # type: ignore[arg-type]
    assert len(built) == 9
    assert built.mapping_views == 5
    torch.testing.assert_close(built.poses[:5], torch.stack([view.cam_from_world for view in VIEWS]))


def test_virtual_views_are_the_same_for_the_same_seed(gaussians: Gaussians) -> None:
    first, again, other = (virtual_views(gaussians, VIEWS, 3, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.cam_from_world, b.cam_from_world)
        assert not torch.equal(a.cam_from_world, c.cam_from_world)


def test_virtual_views_that_show_little_are_rejected(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the mapping views here look away from everything."""
    away = [PosedCamera(CAMERA, se3.se3_exp(torch.tensor([0, 0, 0, 0, 3.1, 0]).double())) for _ in range(5)]
    monkeypatch.setattr(virtual, "_SHIFT", 0.01)
    monkeypatch.setattr(virtual, "_TURN_DEG", 1.0)
    found = virtual_views(gaussians, [*VIEWS, *away], 5)
    assert found
    for view in found:
        assert view.cam_from_world[2, 2] > 0.5


def test_virtual_views_right_in_front_of_a_wall_are_rejected(
    gaussians: Gaussians, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = PosedCamera(CAMERA, se3.se3_exp(torch.tensor([0, 0, -3.1, 0, 0, 0]).double()))
    monkeypatch.setattr(virtual, "_SHIFT", 1e-3)
    monkeypatch.setattr(virtual, "_TURN_DEG", 0.1)
    found = virtual_views(gaussians, [*VIEWS, close], 6)
    assert found
    assert all(se3.camera_center(view.cam_from_world)[2] < 2.5 for view in found)


def test_a_map_that_shows_nothing_has_no_virtual_views(gaussians: Gaussians) -> None:
    nothing = gaussians.select(torch.zeros(len(gaussians), dtype=torch.bool))
    assert virtual_views(nothing, VIEWS, 3) == []


def test_no_view_means_no_index(gaussians: Gaussians) -> None:
    with pytest.raises(GSplatLocError, match="mapping views"):
        build_index(gaussians, [], PatchExtractor(), OPTIONS)  # type: ignore[arg-type]


def test_an_index_survives_its_file(index: ViewIndex, tmp_path: Path) -> None:
    save_index(index, tmp_path / FILE_NAME)
    read = load_index(tmp_path / FILE_NAME)
    assert read is not None
    assert (read.key, read.mapping_views) == (index.key, index.mapping_views)
    torch.testing.assert_close(read.poses, index.poses)
    torch.testing.assert_close(read.descriptors, index.descriptors, rtol=0, atol=1e-3)


def test_an_index_is_made_once_and_again_for_other_options(gaussians: Gaussians, tmp_path: Path) -> None:
    class Counting(PatchExtractor):
        calls = 0

        def extract(self, image: np.ndarray) -> Features:
            self.calls += 1
            return super().extract(image)

    extractor = Counting()
    for _ in range(2):
        cached_index(tmp_path / FILE_NAME, gaussians, VIEWS, extractor, OPTIONS)  # type: ignore[arg-type]
    assert extractor.calls == 5
    cached_index(tmp_path / FILE_NAME, gaussians, VIEWS, extractor, replace(OPTIONS, words=4))  # type: ignore[arg-type]
    assert extractor.calls == 10


def test_a_broken_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("no safetensors")
    with pytest.raises(GSplatLocError, match="remove"):
        load_index(tmp_path / FILE_NAME)


@pytest.mark.parametrize("name", ["poses", "descriptors", "words", "mean"])
def test_tensors_that_do_not_fit_or_are_not_finite_are_a_user_error(
    index: ViewIndex, tmp_path: Path, name: str
) -> None:
    tensor = getattr(index, name)
    for broken in (tensor * torch.nan, tensor[1:], tensor[..., None], tensor.new_zeros(())):
        save_index(replace(index, **{name: broken}), tmp_path / FILE_NAME)
        with pytest.raises(GSplatLocError, match="expected an index of views"):
            load_index(tmp_path / FILE_NAME)


def test_pooled_descriptors_have_unit_length_whatever_the_size_of_the_map() -> None:
    generator = torch.Generator().manual_seed(2)
    dense = F.normalize(torch.randn(64, 6, 7, generator=generator), dim=0)
    words = vocabulary([dense], 4, generator)
    torch.testing.assert_close(words.norm(dim=1), torch.ones(4))
    pooled = pool(dense, words)
    assert pooled.shape == (256,)
    assert pooled.norm().item() == pytest.approx(1)
    torch.testing.assert_close(pool(dense.repeat(1, 2, 1), words), pooled, rtol=0, atol=1e-5)


class _Judge:
    """A refinement that finds evidence at one attempt only, the second if not said otherwise."""

    name = "lm"

    def __init__(self, convinced: int = 2) -> None:
        self.tried: list[PoseEstimate] = []
        self.convinced = convinced

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        self.tried.append(initial)
        return replace(initial, accepted=len(self.tried) == self.convinced)


def _localizer(gaussians: Gaussians, index: ViewIndex, refiner: _Judge) -> Localizer:
    splat_map = SplatMap(gaussians=gaussians)
    return Localizer(RetrievedPose(index, gaussians), PatchExtractor(), splat_map, [refiner])  # type: ignore[arg-type]


def test_the_next_start_is_tried_where_the_first_has_no_evidence(
    gaussians: Gaussians, index: ViewIndex
) -> None:
    refiner = _Judge()
    localizer = _localizer(gaussians, index, refiner)
    found = localizer.localize(_photo(gaussians, VIEWS[1]).image, CAMERA)
    assert len(refiner.tried) == 2
    assert torch.equal(found.stages["initial"].pose(), refiner.tried[1].pose())
    assert pose_errors(refiner.tried[0].cam_from_world, VIEWS[1].cam_from_world)[0] < 1e-6


def test_a_view_that_no_refinement_confirms_is_no_pose(gaussians: Gaussians, index: ViewIndex) -> None:
    localizer = _localizer(gaussians, index, _Judge(convinced=0))
    found = localizer.localize(_photo(gaussians, VIEWS[1]).image, CAMERA)
    assert found.stages["initial"].ok
    assert found.final.status is Status.NO_CONSENSUS
    assert found.final.cam_from_world is None


def test_retrieval_needs_a_camera(gaussians: Gaussians, index: ViewIndex) -> None:
    localizer = _localizer(gaussians, index, _Judge())
    with pytest.raises(GSplatLocError, match="--focal"):
        localizer.localize(_photo(gaussians, VIEWS[1]).image)


def test_a_folder_that_cannot_be_written_only_costs_time(
    gaussians: Gaussians, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise GSplatLocError("expected to write views.safetensors, found: Permission denied")

    monkeypatch.setattr("gsplatloc.localization.initial.view_index.save_index", refuse)
    index = cached_index(tmp_path / FILE_NAME, gaussians, VIEWS, PatchExtractor(), OPTIONS)  # type: ignore[arg-type]
    assert len(index) == len(VIEWS)
    assert "indexes this map in every run: expected to write" in capsys.readouterr().err


def test_the_key_depends_on_the_shape_of_gaussians(gaussians: Gaussians) -> None:
    grown = replace(gaussians, log_scales=gaussians.log_scales + 1)
    filtered = replace(gaussians, antialiased=True)  # rendered otherwise
    keys = {index_key(each, VIEWS, "x-1", OPTIONS) for each in (gaussians, grown, filtered)}
    assert len(keys) == 3


@pytest.mark.parametrize("values", [{"candidates": 0}, {"kept": 0}, {"views": -1}])
def test_retrieval_of_nothing_is_a_user_error(values: dict[str, int]) -> None:
    with pytest.raises(GSplatLocError, match="--retrieval"):
        RetrievalOptions(**values)
