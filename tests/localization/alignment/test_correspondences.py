"""Matching a query image with a rendering: sub-pixel, within a window, under any exposure."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from gsplatloc.localization.alignment import correspondences as correspondence
from gsplatloc.localization.alignment.correspondences import wide_baseline_pose
from gsplatloc.localization.alignment.rendered_view import Rendering
from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.refine.lm import LmRefiner
from gsplatloc.localization.refine.members import LmOptions
from gsplatloc.scene.cameras import Camera
from tests.localization.world import pose_errors

CAMERA = Camera(320, 240, 260.0, 260.0, 160.0, 120.0)
FAR = [0.5, 0.1, -0.3, 0.05, -0.2, 0.1]  # 59 cm, 13 degrees


def _texture(shift: tuple[float, float]) -> np.ndarray:
    """A smooth random texture [240, 320] in [0, 1], moved by `shift` pixels exactly."""
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:240, :320].astype(np.float64)
    image = np.zeros((240, 320))
    for _ in range(40):
        wave = generator.normal(0, 0.25, 2)
        image += np.sin((x - shift[0]) * wave[0] + (y - shift[1]) * wave[1] + generator.uniform(0, 6.28))
    return (0.5 + image / 40).clip(0, 1)


def _view(grey: np.ndarray) -> Rendering:
    rgb = torch.from_numpy(grey).float().expand(3, 240, 320)
    depth = torch.full((240, 320), 2.0)
    return Rendering(CAMERA, torch.eye(4, dtype=torch.float64), rgb, depth, torch.ones(240, 320))


def _photo(grey: np.ndarray) -> np.ndarray:
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, 2)


def _everywhere() -> torch.Tensor:
    return torch.ones(240, 320, dtype=torch.bool)


def test_tracks_follow_a_subpixel_shift() -> None:
    photo = _photo(_texture((3.3, -2.6)))
    pairs = correspondence.track(photo, _view(_texture((0, 0))), _everywhere(), 32, 500)
    assert len(pairs.query) > 100
    flow = (pairs.query - pairs.rendering).median(0).values
    torch.testing.assert_close(flow, torch.tensor([3.3, -2.6]), rtol=0, atol=0.02)


def test_tracks_do_not_mind_exposure() -> None:
    photo = _photo(0.15 + 0.6 * _texture((3.3, -2.6)))
    pairs = correspondence.track(photo, _view(_texture((0, 0))), _everywhere(), 32, 500)
    flow = (pairs.query - pairs.rendering).median(0).values
    torch.testing.assert_close(flow, torch.tensor([3.3, -2.6]), rtol=0, atol=0.05)


def test_tracks_start_only_where_the_rendering_is_valid() -> None:
    valid = _everywhere()
    valid[:, 160:] = False
    pairs = correspondence.track(_photo(_texture((1, 0))), _view(_texture((0, 0))), valid, 32, 500)
    assert bool((pairs.rendering[:, 0] < 160).all())


def test_tracks_longer_than_the_window_are_dropped() -> None:
    pairs = correspondence.track(_photo(_texture((6, 0))), _view(_texture((0, 0))), _everywhere(), 4.0, 500)
    assert len(pairs.query) < 10


def test_corners_are_given_in_our_pixels_not_in_those_of_opencv() -> None:
    """The four corners of a square surround its centre, which is at (150, 120) when a pixel's is at 0.5."""
    grey = np.full((240, 320), 0.3)
    grey[80:160, 100:200] = 0.9
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    pairs = correspondence.track(_photo(smooth), _view(smooth), _everywhere(), 32, 4)
    assert len(pairs.rendering) == 4
    torch.testing.assert_close(pairs.rendering.mean(0), torch.tensor([150.0, 120.0]))
    torch.testing.assert_close(pairs.query.mean(0), torch.tensor([150.0, 120.0]), rtol=0, atol=0.01)


def test_an_image_without_corners_gives_no_tracks() -> None:
    flat = np.full((240, 320), 0.5)
    pairs = correspondence.track(_photo(flat), _view(flat), _everywhere(), 32, 500)
    assert len(pairs.query) == 0


def _keypoints(xy: torch.Tensor, descriptors: torch.Tensor) -> Keypoints:
    return Keypoints(xy, F.normalize(descriptors, dim=1), torch.ones(len(xy)))


def test_keypoints_match_the_best_inside_the_window_only() -> None:
    basis = torch.eye(64)
    photo = _keypoints(torch.tensor([[50.0, 50.0], [100.0, 100.0]]), basis[[0, 1]])
    near = torch.tensor([[55.0, 50.0], [300.0, 50.0], [108.0, 100.0]])
    descriptors = torch.stack([basis[0] + 0.5 * basis[2], basis[0], basis[1]])  # the perfect one is far away
    pairs = correspondence.match_keypoints(photo, _keypoints(near, descriptors), 20.0, 0.7)
    assert pairs.rendering.tolist() == [[55.0, 50.0], [108.0, 100.0]]


def test_keypoints_that_are_not_mutual_do_not_match() -> None:
    basis = torch.eye(64)
    descriptors = torch.stack([basis[0], basis[0] + basis[1]])
    photo = _keypoints(torch.tensor([[50.0, 50.0], [52.0, 50.0]]), descriptors)
    other = _keypoints(torch.tensor([[51.0, 50.0]]), basis[:1])
    pairs = correspondence.match_keypoints(photo, other, 20.0, 0.5)
    assert pairs.query.tolist() == [[50.0, 50.0]]


def test_the_feature_map_is_read_between_its_cells() -> None:
    """Descriptors that change smoothly over the image are found to an eighth of their 8 pixel cells."""
    generator = torch.Generator().manual_seed(8)
    waves = torch.randn(2, 64, generator=generator) / 20

    def describe(xy: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.sin(xy @ waves + torch.arange(64)), dim=-1)

    y, x = torch.meshgrid(torch.arange(30), torch.arange(40), indexing="ij")
    cells = describe((torch.stack([x, y], -1) + 0.5) * 8).permute(2, 0, 1)
    xy = torch.rand(60, 2, generator=generator) * torch.tensor([280.0, 200.0]) + 20
    pairs = correspondence.match_map(_keypoints(xy, describe(xy)), cells, (320, 240), 24.0, 0.7)
    error = torch.linalg.norm(pairs.query - pairs.rendering, dim=1)
    assert len(error) > 40
    assert error.median() < 1.0


def test_a_distant_start_comes_near(room: Any) -> None:
    found = wide_baseline_pose(room.query, room.gaussians, room.initial(FAR))
    assert pose_errors(found.cam_from_world, room.truth)[0] < 0.1
    assert found.covariance is None


def test_lm_comes_home_from_a_distant_start(room: Any) -> None:
    refined = LmRefiner(LmOptions(scale=1.0)).refine(room.query, room.splat_map, room.initial(FAR))
    assert refined.accepted
    assert pose_errors(refined.cam_from_world, room.truth)[0] < 0.005


def test_lm_trusts_an_estimate_that_states_its_covariance(room: Any) -> None:
    """It is refined where it is: its matches have been looked for before."""
    near = [0.02, 0, 0, 0, 0, 0]
    initial = replace(room.initial(near), covariance=1e-3 * torch.eye(6, dtype=torch.float64))
    blind = replace(room.query, keypoints=room.query.keypoints.select(slice(0, 0)))
    refined = LmRefiner(LmOptions(scale=1.0)).refine(blind, room.splat_map, initial)
    assert pose_errors(refined.cam_from_world, room.truth)[0] < 0.003


def test_without_agreement_the_estimate_stays(room: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.normalize(torch.randn(600, 64, generator=generator), dim=1)
    query = replace(room.query, keypoints=replace(room.query.keypoints, descriptors=noise))
    initial = room.initial(FAR)
    assert wide_baseline_pose(query, room.gaussians, initial) is initial


def test_a_map_without_descriptors_leaves_the_estimate(room: Any) -> None:
    bare = replace(room.gaussians, features=room.gaussians.features[:, :0])
    initial = room.initial(FAR)
    assert wide_baseline_pose(room.query, bare, initial) is initial


def test_a_photo_without_keypoints_leaves_the_estimate(room: Any) -> None:
    blind = replace(room.query, keypoints=room.query.keypoints.select(slice(0, 0)))
    initial = room.initial(FAR)
    assert wide_baseline_pose(blind, room.gaussians, initial) is initial
