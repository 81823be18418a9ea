"""From far away, matches of descriptors bring an estimate home to where slopes can be followed."""

from dataclasses import replace
from typing import Any

import torch

from gsplatloc.gaussian_renderer import RenderOptions
from gsplatloc.localization.alignment.wide_baseline import wide_start
from gsplatloc.localization.refine.lm import LmOptions, LmRefiner
from gsplatloc.localization.result import pose_errors

FAR = [0.5, 0.1, -0.3, 0.05, -0.2, 0.1]  # 59 cm, 13 degrees


def test_a_distant_start_comes_near(room: Any) -> None:
    found = wide_start(room.query, room.gaussians, room.initial(FAR), RenderOptions())
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
    assert wide_start(query, room.gaussians, initial, RenderOptions()) is initial


def test_a_map_without_descriptors_leaves_the_estimate(room: Any) -> None:
    bare = replace(room.gaussians, features=room.gaussians.features[:, :0])
    initial = room.initial(FAR)
    assert wide_start(room.query, bare, initial, RenderOptions()) is initial


def test_a_photo_without_keypoints_leaves_the_estimate(room: Any) -> None:
    blind = replace(room.query, keypoints=room.query.keypoints.select(slice(0, 0)))
    initial = room.initial(FAR)
    assert wide_start(blind, room.gaussians, initial, RenderOptions()) is initial
