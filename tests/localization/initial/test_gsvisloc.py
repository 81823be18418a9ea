"""The initial pose in a splat without descriptors, with the weights of the package."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gsplatloc.localization.features import make_extractor
from gsplatloc.localization.initial.gsvisloc import FILE_NAME, GSVisLocPose
from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.initial.members import GSVisLocOptions, LandmarkMatchingOptions
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.result import Status
from gsplatloc.localization.splat_descriptors.network import WEIGHTS, SplatEncoder, save_encoder
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.rendered_room import CAMERA, make_gaussians
from tests.localization.splat_maps import photo, pose_near, write_map
from tests.localization.world import CAMERA as WORLD_CAMERA
from tests.localization.world import TRUTH, VERSION, World, make_world, pose_errors

SETTINGS = GSVisLocOptions(tried=300, kept=150)


@pytest.fixture(scope="module")
def room() -> Gaussians:
    return make_gaussians()


@pytest.fixture(scope="module")
def folder(room: Gaussians, tmp_path_factory: pytest.TempPathFactory) -> Path:
    poses = [pose_near(seed) for seed in range(8)]
    return write_map(tmp_path_factory.mktemp("maps") / "map", room, poses)


def localizer(folder: Path, settings: GSVisLocOptions = SETTINGS, *stages: str) -> Localizer:
    return Localizer.load(folder, LocalizerOptions("gsvisloc", stages, (settings,), device="cpu"))


def test_a_pose_is_found_in_a_splat_alone(room: Gaussians, folder: Path) -> None:
    found = localizer(folder, SETTINGS, "lm")
    for seed in (100, 101, 102):
        truth = pose_near(seed)
        result = found.localize(photo(room, truth), CAMERA)
        assert result.status is Status.OK
        translation, rotation = pose_errors(result.stages["initial"].cam_from_world, truth)
        assert translation < 0.25 and rotation < 10
        translation, rotation = pose_errors(result.final.cam_from_world, truth)
        assert translation < 0.01 and rotation < 0.2


def with_decoys(world: World, right: int) -> Landmarks:
    """The world's landmarks, blurred; all keypoints but `right` are more like one behind the camera."""
    generator = torch.Generator().manual_seed(4)
    true = world.landmarks
    noise = torch.randn(true.descriptors.shape, generator=generator) / 8
    blurred = F.normalize(true.descriptors + 0.6 * noise, dim=1)
    wrong = world.features.keypoints.descriptors[: -right or None]
    behind = torch.rand(len(wrong), 3, generator=generator) * 4 - torch.tensor([2.0, 2.0, 9.0])
    positions = (behind - TRUTH[:3, 3].float()) @ TRUTH[:3, :3].float()
    columns = zip(
        (true.positions, blurred, true.directions, true.distances, true.lengths),
        (positions, wrong, *(t[: len(wrong)] for t in (true.directions, true.distances, true.lengths))),
    )
    return Landmarks(*(torch.cat(column) for column in columns), VERSION)


def test_few_right_matches_are_proved_by_guided_matching() -> None:
    world = make_world(outliers=0)
    landmarks, query = with_decoys(world, right=9), world.query(WORLD_CAMERA)
    (plain,) = LandmarkPose(landmarks, LandmarkMatchingOptions(1000, 10_000)).hypotheses(query)
    (found,) = GSVisLocPose(landmarks).hypotheses(query)
    assert not plain.ok and found.ok and found.inliers > 100
    translation, rotation = pose_errors(found.cam_from_world, TRUTH)
    assert translation < 0.02 and rotation < 0.3


def test_no_right_matches_are_not_proved() -> None:
    world = make_world(outliers=200)
    (found,) = GSVisLocPose(with_decoys(world, right=0)).hypotheses(world.query(WORLD_CAMERA))
    assert not found.ok


def test_a_pose_in_another_place_is_not_verified(folder: Path) -> None:
    """Of the initial pose alone, chance matches may agree on one."""
    generator = torch.Generator().manual_seed(8)
    noise = torch.rand(30, 40, 3, generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
    assert (
        localizer(folder, SETTINGS, "lm").localize((255 * noise).byte().numpy(), CAMERA).status
        is not Status.OK
    )


def test_landmarks_are_predicted_once(folder: Path) -> None:
    localizer(folder)
    file = folder / FILE_NAME
    before = file.stat().st_mtime_ns
    localizer(folder)
    assert file.stat().st_mtime_ns == before
    localizer(folder, replace(SETTINGS, kept=140))
    assert file.stat().st_mtime_ns != before


def test_other_weights_predict_anew(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = tmp_path / "untrained.safetensors"
    save_encoder(SplatEncoder(), path, {"extractor": make_extractor().version})
    localizer(folder)
    before = (folder / FILE_NAME).read_bytes()
    localizer(folder, replace(SETTINGS, weights=str(path)))
    assert (folder / FILE_NAME).read_bytes() != before


def test_weights_of_another_extractor_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_encoder(SplatEncoder(), path, {"extractor": "xfeat-0-r0"})
    with pytest.raises(GSplatLocError, match="found those for xfeat-0-r0"):
        localizer(folder, replace(SETTINGS, weights=str(path)))


def test_a_splat_without_opaque_gaussians_is_a_users_error(room: Gaussians, tmp_path: Path) -> None:
    faint = replace(room, opacity_logits=torch.full((len(room),), -0.5))
    folder = write_map(tmp_path / "map", faint, [pose_near(0)])
    with pytest.raises(GSplatLocError, match="--gsvisloc.min_opacity"):
        localizer(folder)


def test_a_map_without_cameras_is_a_users_error(room: Gaussians, tmp_path: Path) -> None:
    folder = write_map(tmp_path / "map", room, [pose_near(0)])
    (folder / "cameras.json").unlink()
    with pytest.raises(GSplatLocError, match="cameras.json"):
        localizer(folder)


def test_the_weights_of_the_package_are_small() -> None:
    assert WEIGHTS.stat().st_size < 2e6
