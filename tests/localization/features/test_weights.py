"""Files of weights: whatever is in them that is not a network's tensors is one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gsplatloc.localization.features.weights import fill, read_weights
from gsplatloc.utils.errors import GSplatLocError


@pytest.mark.parametrize("stored", [[1.0], torch.zeros(3), {1: torch.zeros(1)}, {"a": 2}])
def test_other_things_than_named_tensors_are_refused(stored: Any, tmp_path: Path) -> None:
    torch.save(stored, tmp_path / "net.pt")
    with pytest.raises(GSplatLocError, match="expected Net's weights in .*something else"):
        read_weights(tmp_path / "net.pt", "Net")


@pytest.mark.parametrize("name", ["weight", "other"])
def test_another_networks_tensors_are_refused(name: str, tmp_path: Path) -> None:
    weights = {name: torch.zeros(3, 3), "bias": torch.zeros(2)}
    with pytest.raises(GSplatLocError, match="another network's"):
        fill(nn.Linear(2, 2), weights, tmp_path, "Net")


def test_buffers_may_be_missing_but_parameters_may_not(tmp_path: Path) -> None:
    network = nn.BatchNorm1d(2)
    parameters = dict(network.named_parameters())
    fill(network, parameters, tmp_path, "Net", strict=False)
    with pytest.raises(GSplatLocError, match="another network's"):
        fill(network, {"weight": parameters["weight"]}, tmp_path, "Net", strict=False)
