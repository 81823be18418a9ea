"""Checkpoints written and read back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gsplatloc.scene.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from gsplatloc.utils.errors import GSplatLocError


def test_a_checkpoint_comes_back_exactly(tmp_path: Path) -> None:
    tensors = {"optimizer.means.value": torch.rand(3, 3), "order.queue": torch.tensor([4, 2])}
    checkpoint = Checkpoint(12, tensors, {"views": ["a", "b"], "exposure": False})
    save_checkpoint(tmp_path / "c.safetensors", checkpoint)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded.iteration == 12 and loaded.facts == checkpoint.facts
    assert torch.equal(loaded.group("optimizer")["means.value"], tensors["optimizer.means.value"])
    assert loaded.group("order")["queue"].tolist() == [4, 2]


def test_the_name_tells_the_iteration(tmp_path: Path) -> None:
    assert checkpoint_path(tmp_path, 700).name == "checkpoint_700.safetensors"


def test_a_missing_checkpoint_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="found none"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_other_safetensors_are_a_users_error(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(GSplatLocError, match="format"):
        load_checkpoint(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all, not even close"])
def test_a_broken_file_is_a_users_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.safetensors").write_bytes(content)
    with pytest.raises(GSplatLocError, match=r"broken\.safetensors"):
        load_checkpoint(tmp_path / "broken.safetensors")
