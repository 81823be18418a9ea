"""The initial pose from the descriptors of all Gaussians."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.localization.alignment.direct import squared_distance
from gsplatloc.localization.initial import INITIAL_POSES
from gsplatloc.localization.initial.gaussians import GaussianPose
from gsplatloc.localization.initial.members import GaussianMatchingOptions
from gsplatloc.localization.refine import StageContext
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import CAMERA, TRUTH, FakeExtractor, World, make_world, pose_errors


def gaussians_of(world: World, opacity: float = 0.9) -> Gaussians:
    """The world's landmarks as opaque Gaussians, their descriptors longer than 1."""
    positions = world.landmarks.positions.float()
    count = len(positions)
    return Gaussians(
        means=positions,
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
        log_scales=torch.full((count, 3), -4.0),
        opacity_logits=torch.full((count,), opacity).logit(),
        sh=torch.zeros(count, 1, 3),
        features=3 * world.landmarks.descriptors.float(),
    )


def test_the_pose_is_found_among_wrong_matches(world: World) -> None:
    (found,) = GaussianPose(gaussians_of(world)).hypotheses(world.query(CAMERA))
    translation, rotation = pose_errors(found.cam_from_world, TRUTH)
    assert found.ok and translation < 0.01 and rotation < 0.2


def test_the_covariance_includes_errors_that_neighbouring_gaussians_share() -> None:
    """Surfaces are off by 2 cm and 3 % of their depth, alike in every ninth of the image."""
    distances = []
    for seed in range(6):
        world, generator = make_world(seed=seed), torch.Generator().manual_seed(seed)
        gaussians, center = gaussians_of(world), se3.camera_center(TRUTH).float()
        pixels = CAMERA.project(gaussians.means.double() @ TRUTH[:3, :3].T + TRUTH[:3, 3])
        columns, rows = pixels[:, 0] * 3 // CAMERA.width, pixels[:, 1] * 3 // CAMERA.height
        cells = (columns + 3 * rows).long().clamp(0, 8)
        deeper = 1 + 0.03 * torch.randn(9, 1, generator=generator)[cells]
        aside = 0.02 * torch.randn(9, 3, generator=generator)[cells]
        moved = replace(gaussians, means=center + deeper * (gaussians.means - center) + aside)
        (found,) = GaussianPose(moved).hypotheses(world.query(CAMERA))
        distances.append(squared_distance(found, found.pose(), TRUTH) / 6)
    assert sum(distances) / len(distances) < 2


def test_descriptors_behind_a_decoder_are_decoded(world: World) -> None:
    plain = gaussians_of(world)
    turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0]
    coded = replace(plain, features=plain.features @ turn, feature_decoder=turn)
    (found,) = GaussianPose(coded).hypotheses(world.query(CAMERA))
    assert pose_errors(found.cam_from_world, TRUTH)[0] < 0.01


def test_faint_gaussians_are_not_matched(world: World) -> None:
    (found,) = GaussianPose(gaussians_of(world, opacity=0.05)).hypotheses(world.query(CAMERA))
    assert not found.ok
    options = GaussianMatchingOptions(min_opacity=0.01)
    assert GaussianPose(gaussians_of(world, opacity=0.05), options).hypotheses(world.query(CAMERA))[0].ok


def test_only_the_strongest_keypoints_take_part(world: World) -> None:
    few = GaussianMatchingOptions(keypoints=3)
    assert not GaussianPose(gaussians_of(world), few).hypotheses(world.query(CAMERA))[0].ok


def test_a_map_without_descriptors_is_a_users_error(world: World, tmp_path: Path) -> None:
    bare = replace(gaussians_of(world), features=torch.zeros(300, 0))
    context = StageContext(SplatMap(gaussians=bare), FakeExtractor(world.features))
    with pytest.raises(GSplatLocError, match="--descriptors"):
        INITIAL_POSES.make("gaussians", (), context)
