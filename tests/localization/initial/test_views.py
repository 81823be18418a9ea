"""The initial pose of a sparse pipeline, in a world with known ground truth."""

import numpy as np
import pytest
import torch

from gsplatloc.localization.initial.members import ViewMatchingOptions
from gsplatloc.localization.initial.views import ViewsPose
from gsplatloc.localization.landmarks.covisible import CovisibleViews
from gsplatloc.localization.result import Status
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import CAMERA, TRUTH, World, pose_errors


def view(degrees: float) -> PosedCamera:
    """The camera of the query, turned about its vertical axis."""
    xi = torch.tensor([0, 0, 0, 0, -torch.pi / 180 * degrees, 0], dtype=torch.float64)
    return PosedCamera(CAMERA, se3.se3_exp(xi) @ TRUTH)


def test_the_pose_is_found_from_the_landmarks_of_retrieved_views(world: World) -> None:
    views = CovisibleViews(world.landmarks, [view(-5.0), view(5.0), view(180.0)])
    (found,) = ViewsPose(views, ViewMatchingOptions(views=2)).hypotheses(world.query(CAMERA))
    assert found.ok and found.accepted and found.covariance is not None
    metres, degrees = pose_errors(found.pose(), TRUTH)
    assert metres < 0.01 and degrees < 0.1
    assert found.matches is not None and found.inliers > 100
    assert len(np.unique(found.matches.points, axis=0)) == len(found.matches)  # both views give most of them


def test_landmarks_that_no_retrieved_view_sees_are_not_matched(world: World) -> None:
    views = CovisibleViews(world.landmarks, [view(180.0)])
    (found,) = ViewsPose(views).hypotheses(world.query(CAMERA))
    assert found.status is Status.TOO_FEW_MATCHES


def test_no_view_is_an_error_of_the_user() -> None:
    with pytest.raises(GSplatLocError, match="at least one view"):
        ViewMatchingOptions(views=0)
