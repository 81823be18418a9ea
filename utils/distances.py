"""Distances between points."""

import torch
from torch import Tensor


def exact_distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances [N, M] between points a [N, D] and b [M, D].

    Not by matrix products, with which float32 loses centimetres some 100 m from the origin.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
