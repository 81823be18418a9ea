"""Scenes far from the origin (UTM, ECEF) and in other units: right maps, results in world coordinates."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gsplatloc
from gsplatloc.gaussian_renderer import render
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.io.given_poses import queries_of_views
from gsplatloc.localization.io.pose_files import read_pose_file
from gsplatloc.localization.io.poses import PoseRecord, read_poses, write_poses
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera, PosedCamera, Scene, SparsePoints, View
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import read_cameras, read_config
from gsplatloc.scene.map_frame import MapFrame, local_origin, median_depth, usual_unit
from gsplatloc.scene.trajectory import Trajectory, read_tum_trajectory, write_tum_trajectory
from gsplatloc.tracking.options import TrackingOptions
from gsplatloc.tracking.run import track, write_result
from gsplatloc.tracking.sequence import RgbdSequence
from gsplatloc.utils import se3
from gsplatloc.visualization.rendering import ImageOptions, render_images
from gsplatloc.visualization.trajectory import cameras_of_poses
from tests.tracking.conftest import CAMERA, FRAMES, clip_views, make_clip

UTM, ECEF = (448262.0, 5411932.0, 312.0), (4177423.123, 855045.456, 4727678.789)
CASES = {
    "utm": (1.0, UTM),
    "ecef": (1.0, ECEF),
    "west and south of the origin": (1.0, (-300262.5, -2411932.0, -50.25)),
    "thousandths": (0.001, (0.0, 0.0, 0.0)),
    "thousands": (1000.0, (0.0, 0.0, 0.0)),
    "millimetres in utm": (1000.0, tuple(1000 * x for x in UTM)),
}


def turned(offset: tuple[float, ...]) -> np.ndarray:
    """The rotation of a world that is `offset` from the origin: in ECEF, up is away from Earth."""
    if offset != ECEF:
        return np.eye(3)
    up = np.array(offset) / np.linalg.norm(offset)
    east = np.cross([0, 0, 1], up)
    east /= np.linalg.norm(east)
    return np.stack([east, np.cross(up, east), up], 1)


def random_poses(count: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return se3.se3_exp(torch.randn(count, 6, generator=generator, dtype=torch.float64))


def placed(poses: torch.Tensor, scale: float, offset: tuple[float, ...]) -> torch.Tensor:
    """Poses in a world that is scaled, then moved."""
    centers = se3.camera_center(poses) * scale + torch.tensor(offset, dtype=torch.float64)
    rotation = poses[..., :3, :3]
    return se3.from_rotation_translation(rotation, -(rotation @ centers[..., None])[..., 0])


@pytest.mark.parametrize("case", CASES)
def test_poses_return_to_the_world_to_a_micrometre(case: str) -> None:
    scale, offset = CASES[case]
    world = placed(random_poses(), scale, offset)
    frame = MapFrame(local_origin(world), scale)
    local = frame.pose_in_map(world)
    assert se3.camera_center(local).abs().max() < 20  # of single precision is left 1e-6
    back = frame.pose_in_world(local.float())
    error = (se3.camera_center(back) - se3.camera_center(world)).norm(dim=1).max()
    assert error < 3e-6 * scale


def test_a_rotation_of_single_precision_does_not_move_the_camera() -> None:
    """R^T R differs from 1 by 1e-7: times five million metres that would be half a metre."""
    local = random_poses().float()
    world = MapFrame(UTM).pose_in_world(local)
    expected = -torch.linalg.solve(local[:, :3, :3].double(), local[:, :3, 3].double()) + torch.tensor(UTM)
    assert (se3.camera_center(world) - expected).norm(dim=1).max() < 1e-6


def test_scenes_near_the_origin_keep_their_coordinates() -> None:
    for scale, offset in (
        (1.0, (0, 0, 0)),
        (1.0, (30.0, -20.0, 5.0)),
        (0.001, (0.02, 0, 0)),
        (300.0, (0, 0, 0)),
    ):
        assert local_origin(placed(random_poses(), scale, offset)) == (0.0, 0.0, 0.0)
    assert local_origin(random_poses(1)) == (0.0, 0.0, 0.0)
    poses = random_poses()
    assert MapFrame().pose_in_map(poses) is poses and MapFrame().pose_in_world(poses) is poses


def test_one_camera_and_cameras_in_one_place_have_an_origin() -> None:
    one = placed(random_poses(1), 1.0, UTM)
    for poses in (one, one.repeat(5, 1, 1)):
        origin = local_origin(poses)
        assert (se3.camera_center(MapFrame(origin).pose_in_map(poses))).abs().max() < 1


def test_a_wrong_pose_does_not_keep_the_others_far_away() -> None:
    world = torch.cat([placed(random_poses(), 1.0, UTM), torch.eye(4, dtype=torch.float64)[None]])
    local = MapFrame(local_origin(world)).pose_in_map(world)
    assert se3.camera_center(local)[:-1].abs().max() < 20


@pytest.mark.parametrize(
    ("depth", "unit"), [(None, 1), (0.3, 1), (2.5, 1), (99, 1), (0.0025, 0.001), (2500, 1000), (150, 100)]
)
def test_the_unit_brings_depths_to_a_few_metres(depth: float | None, unit: float) -> None:
    assert usual_unit(depth) == unit


def test_median_depth_is_of_the_points_in_view() -> None:
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    view = View(
        "a", camera, torch.eye(4, dtype=torch.float64), Path(), lambda: np.zeros((48, 64, 3), np.uint8)
    )
    ahead = np.array([[0, 0, 3.0]]).repeat(40, 0)
    behind_and_aside = np.array([[0, 0, -9.0], [90, 0, 9.0]]).repeat(90, 0)
    assert median_depth([view], np.concatenate([ahead, behind_and_aside])) == 3.0
    assert median_depth([view], ahead[:9]) is None


def test_an_estimate_changes_its_coordinates_as_a_whole() -> None:
    camera, frame = Camera(64, 48, 50.0, 50.0, 32.0, 24.0), MapFrame(UTM, 0.001)
    points = np.array([[0.1, 0.2, 3.0], [0.4, -0.2, 2.0]])
    estimate = PoseEstimate(
        Status.OK, camera, random_poses(1)[0], covariance=torch.eye(6, dtype=torch.float64),
        information=torch.eye(6, dtype=torch.float64),
        matches=Matches(np.zeros((2, 2)), points, np.ones(2, bool)),
    )  # fmt: skip
    world = estimate.in_world(frame)
    assert world.expected_translation_m == pytest.approx(0.001 * 3**0.5)
    assert world.expected_rotation_deg == pytest.approx(estimate.expected_rotation_deg)
    assert world.information is not None and world.information[0, 0] == pytest.approx(1e6)
    assert world.matches is not None
    pixels = [
        camera.project(torch.from_numpy(p) @ e.pose()[:3, :3].T + e.pose()[:3, 3])
        for e, p in ((estimate, points), (world, world.matches.points))
    ]
    assert (pixels[0] - pixels[1]).abs().max() < 1e-3
    failed = PoseEstimate(Status.NO_CONSENSUS, camera).in_world(frame)
    assert failed.cam_from_world is None


def test_files_of_poses_keep_a_micrometre_at_any_distance(tmp_path: Path) -> None:
    poses = placed(random_poses(), 1.0, ECEF)
    centers = se3.camera_center(poses)
    write_poses(
        tmp_path / "poses.txt", [PoseRecord(f"{i}.png", pose, 525.505) for i, pose in enumerate(poses)]
    )
    read = torch.stack([record.cam_from_world for record in read_poses(tmp_path / "poses.txt").values()])
    assert (se3.camera_center(read) - centers).abs().max() < 1e-6
    write_tum_trajectory(tmp_path / "trajectory.txt", Trajectory(np.arange(len(poses)) * 1.0, poses))
    read = read_tum_trajectory(tmp_path / "trajectory.txt").cam_from_world
    assert (se3.camera_center(read) - centers).abs().max() < 1e-6


def test_points_and_depth_move_with_the_scene() -> None:
    camera, pose = Camera(64, 48, 50.0, 50.0, 32.0, 24.0), placed(random_poses(1), 1000.0, UTM)[0]
    view = View("a", camera, pose, Path(), lambda: np.zeros(0), lambda: np.full((48, 64), 2500, np.float32))
    local = np.array([[0.51234567, 0.1, 2.0]])
    cloud = SparsePoints(local * 1000 + np.array(UTM), np.zeros((1, 3), np.uint8))
    scene = MapFrame(UTM, 1000.0).scene_in_map(Scene("s", Path(), [view], [view], cloud))
    assert scene.points is not None and np.abs(scene.points.positions - local).max() < 1e-9
    assert scene.train[0].load_depth is not None and scene.train[0].load_depth()[0, 0] == 2.5
    assert torch.equal(scene.train[0].cam_from_world, scene.test[0].cam_from_world)


def test_a_point_cloud_that_lost_its_digits_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    local = np.array([[0.51234567, 0.1, 2.0]])
    for frame, kept in ((MapFrame(UTM), False), (MapFrame(unit=0.001), True)):
        positions = frame.points_in_world(local).astype(np.float32).astype(np.float64)
        scene = Scene("s", Path(), [], [], SparsePoints(positions, np.zeros((1, 3), np.uint8)))
        assert (frame.scene_in_map(scene).points is not None) == kept
        assert ("single precision" in capsys.readouterr().err) != kept


@pytest.mark.parametrize("scale", [1.0, 0.001, 1000.0])
def test_a_map_of_another_program_is_rendered_in_any_unit(scale: float) -> None:
    pytest.importorskip("gsplatloc_kernels")
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(60, 3, generator=generator) * torch.tensor([2.0, 1.5, 1.0])
    gaussians = Gaussians(
        scale * (means + torch.tensor([-1.0, -0.75, 2.0])),
        torch.tensor([[1.0, 0, 0, 0]]).expand(60, 4),
        torch.full((60, 3), float(np.log(0.08 * scale))),
        torch.full((60,), 3.0),
        torch.ones(60, 1, 3),
        torch.zeros(60, 0),
    )
    camera = PosedCamera(Camera(64, 48, 50.0, 50.0, 32.0, 24.0), torch.eye(4, dtype=torch.float64), "a")
    (shown,) = render_images(gaussians, [camera], ImageOptions(depth=False))
    assert 30 < shown.images["rgb"].mean() < 200


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features depend on images alone: all maps below share them."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("case", CASES)
def test_a_scene_is_mapped_and_localized_wherever_it_is(
    case: str, room_scene: Path, features: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gsplatloc_kernels")
    scale, offset = CASES[case]
    folder, model = tmp_path / "room", tmp_path / "map"
    shutil.copytree(room_scene, folder, ignore=shutil.ignore_patterns("depth"))
    for file in folder.glob("*/poses/*.txt"):
        pose = np.loadtxt(file)
        pose[:3] = turned(offset) @ pose[:3]
        pose[:3, 3] = scale * pose[:3, 3] + offset
        np.savetxt(file, pose, fmt="%.17g")
    (model / "cache").mkdir(parents=True)
    (model / "cache" / "features").symlink_to(features)
    gsplatloc.train(folder, model, iterations=2, quiet=True)

    scene, frame = gsplatloc.read_scene(folder), read_config(model).frame
    assert frame.unit == scale
    gaussians, cameras = load_gaussians(model), read_cameras(model)
    shown = render(gaussians, cameras[0].camera, cameras[0].cam_from_world)
    assert shown.alpha.mean() > 0.2  # not black
    localizer = gsplatloc.Localizer.load(model, LocalizerOptions(stages=()))
    errors, expected = [], []
    for view in scene.test:
        found = localizer.localize(view.load_image(), view.camera).final
        assert found.cam_from_world is not None and found.cam_from_world.dtype == torch.float64
        errors.append(pose_error(found.cam_from_world, view.cam_from_world).translation_m / scale)
        expected.append((found.expected_translation_m or 0) / scale)
    assert np.median(errors) < 0.03
    assert 0.001 < np.median(expected) < 0.1

    # Poses of another estimator are in the scene's coordinates, too, and so are poses to render from.
    poses = tmp_path / "poses.txt"
    write_poses(poses, [PoseRecord(view.name, view.cam_from_world) for view in scene.train])
    given = queries_of_views(scene.train[:1], read_pose_file(poses, [view.name for view in scene.train]))[0]
    refiner = gsplatloc.Localizer.load(model, LocalizerOptions("given", ()))
    found = refiner.localize(given.load_image(), given.load_camera(), given.given_pose).final
    assert pose_error(found.cam_from_world, scene.train[0].cam_from_world).translation_m < 1e-6 * scale
    shown_from = cameras_of_poses(poses, scene.train[0].camera, frame)[0]
    assert (shown_from.cam_from_world - cameras[0].cam_from_world).abs().max() < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_a_sequence_is_tracked_wherever_it_is(case: str, tmp_path: Path) -> None:
    pytest.importorskip("gsplatloc_kernels")
    scale, offset = CASES[case]
    truth = make_clip(6).truth
    views = clip_views(truth, scale)
    world = Trajectory(truth.timestamps, placed(truth.cam_from_world, scale, offset))
    sequence = RgbdSequence("clip", views, truth.timestamps, world, root=tmp_path)
    options = replace(TrackingOptions(), frames=FRAMES)
    result = track(sequence, options)
    assert not result.lost
    assert result.error is not None and result.error.ate_rmse_m < 0.002 * scale
    write_result(tmp_path, sequence, options, result)
    saved = read_tum_trajectory(tmp_path / "trajectory.txt").cam_from_world
    assert (se3.camera_center(saved) - se3.camera_center(world.cam_from_world)).norm(
        dim=1
    ).max() < 0.005 * scale
    camera = read_cameras(tmp_path)[0]
    assert render(load_gaussians(tmp_path), CAMERA, camera.cam_from_world).alpha.mean() > 0.5
    assert json.loads((tmp_path / "config.json").read_text())["frame"]["unit"] == scale
