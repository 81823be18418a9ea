"""What an estimate weighs beside other evidence."""

from dataclasses import replace

import torch

from gsplatloc.localization.pose.covariance import apart
from gsplatloc.localization.result import PoseEstimate, Status, information_of
from tests.localization.world import CAMERA, TRUTH

STATED = torch.diag(torch.tensor([1e-4] * 3 + [1e-5] * 3, dtype=torch.float64))
ESTIMATE = PoseEstimate(Status.OK, CAMERA, TRUTH)


def test_no_covariance_is_no_information() -> None:
    assert not information_of(ESTIMATE).any()
    assert not information_of(replace(ESTIMATE, information=torch.eye(6).double())).any()


def test_an_estimate_says_what_it_weighs() -> None:
    information = torch.eye(6, dtype=torch.float64)
    assert information_of(replace(ESTIMATE, covariance=STATED, information=information)) is information


def test_else_its_covariance_tells() -> None:
    torch.testing.assert_close(information_of(replace(ESTIMATE, covariance=STATED)), apart(STATED))
