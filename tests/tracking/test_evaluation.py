"""Figures of a trajectory, against what was put into it and against evo's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gsplatloc.scene.trajectory import Trajectory, read_tum_trajectory, write_tum_trajectory
from gsplatloc.tracking.evaluation import aligned, trajectory_error
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError

# evo 1.38.1 on the trajectories of `wobbly`: evo_ape tum truth.txt estimate.txt [-a] [-r angle_deg]
EVO_ATE_RMSE_M = 0.012010
EVO_AAE_DEG = 2.424047
EVO_ATE_RMSE_UNALIGNED_M = 0.497136
EVO_AAE_UNALIGNED_DEG = 21.447292


def wobbly(count: int = 40) -> tuple[Trajectory, Trajectory]:
    """An estimate with smooth errors, in another world, and its truth."""
    steps = torch.arange(count, dtype=torch.float64)[:, None]
    velocity = torch.tensor([[0.03, -0.01, 0.02, 0.01, 0.03, -0.005]], dtype=torch.float64)
    truth = se3.se3_exp(steps * velocity + 0.05 * torch.sin(0.3 * steps))
    waves = torch.cat([torch.sin(0.2 * steps * k + k) for k in range(1, 7)], 1)
    world = se3.se3_exp(torch.tensor([0.3, -0.2, 0.1, 0.2, -0.3, 0.1], dtype=torch.float64))
    stamps = 100 + np.arange(count) / 30
    estimate = se3.se3_exp(0.01 * waves) @ truth @ world
    return Trajectory(stamps + 0.003, estimate), Trajectory(stamps, truth)


def test_a_rigid_motion_is_no_error() -> None:
    _, truth = wobbly()
    world = se3.se3_exp(torch.tensor([1.0, -2, 3, 0.4, -0.9, 2.0], dtype=torch.float64))
    error = trajectory_error(Trajectory(truth.timestamps, truth.cam_from_world @ world), truth)
    assert error.ate_rmse_m < 1e-9 and error.aae_deg < 1e-5
    assert error.ate_rmse_unaligned_m > 1


def test_error_of_one_pose_among_many_is_its_share() -> None:
    _, truth = wobbly(100)
    moved = truth.cam_from_world.clone()
    moved[50, 0, 3] += 0.1
    error = trajectory_error(Trajectory(truth.timestamps, moved), truth)
    assert error.ate_rmse_unaligned_m == pytest.approx(0.1 / 10)
    assert error.ate_max_m == pytest.approx(0.1, rel=0.05)


def test_trajectories_of_other_times_are_a_users_error() -> None:
    estimate, truth = wobbly()
    with pytest.raises(GSplatLocError, match="at least 3 poses"):
        trajectory_error(Trajectory(estimate.timestamps + 500, estimate.cam_from_world), truth)


def test_aligned_trajectory_lies_in_the_truths_world() -> None:
    estimate, truth = wobbly()
    centers = se3.camera_center(aligned(estimate, truth).cam_from_world)
    assert (centers - se3.camera_center(truth.cam_from_world)).norm(dim=1).max() < 0.05


def test_figures_are_those_that_evo_gave() -> None:
    """evo need not be installed: its figures were noted once."""
    error = trajectory_error(*wobbly())
    found = (error.ate_rmse_m, error.aae_deg, error.ate_rmse_unaligned_m, error.aae_unaligned_deg)
    noted = (EVO_ATE_RMSE_M, EVO_AAE_DEG, EVO_ATE_RMSE_UNALIGNED_M, EVO_AAE_UNALIGNED_DEG)
    assert found == pytest.approx(noted, abs=1e-6)  # evo prints six decimals


def test_evo_reads_the_files_and_agrees(tmp_path: Path) -> None:
    pytest.importorskip("evo")
    from evo.core import metrics, sync
    from evo.tools import file_interface

    for name, trajectory in zip(("estimate", "truth"), wobbly()):
        write_tum_trajectory(tmp_path / name, trajectory)
    truth, estimate = (file_interface.read_tum_trajectory_file(tmp_path / n) for n in ("truth", "estimate"))
    truth, estimate = sync.associate_trajectories(truth, estimate)
    estimate.align(truth)
    ours = trajectory_error(*(read_tum_trajectory(tmp_path / name) for name in ("estimate", "truth")))
    for relation, kind, expected in (
        (metrics.PoseRelation.translation_part, metrics.StatisticsType.rmse, ours.ate_rmse_m),
        (metrics.PoseRelation.rotation_angle_deg, metrics.StatisticsType.mean, ours.aae_deg),
    ):
        ape = metrics.APE(relation)
        ape.process_data((truth, estimate))
        assert ape.get_statistic(kind) == pytest.approx(expected, rel=1e-6)
