"""The CUDA kernel of Adam on the host shim, against the torch code that defines it."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch

import gsplatloc_kernels as native
from gsplatloc.mapping import reference
from tests.cuda.support import ORDERS, on_shim
from tests.rasterizer.test_adam import copied, largest_difference, parameters

# Rows of whole and of broken groups of four; more parameters than one launch takes; more than one block.
_SHAPES = [(40, 3), (40,), (40, 4), (40, 45), (40, 64), (0, 4), (700, 9), (40, 2), (7, 5), (40, 8), (40, 12)]


@pytest.mark.parametrize("share", [None, 0.0, 0.4, 1.0])
def test_steps_are_the_references(shim: ModuleType, share: float | None) -> None:
    visible = None if share is None else torch.rand(40, generator=torch.Generator().manual_seed(2)) < share
    given = parameters(torch.float32, visible=visible, shapes=_SHAPES)
    expected = copied(given, torch.float64)
    reference.adam_step(expected, (0.9, 0.999), 1e-15)
    for order in ORDERS:
        found = copied(given, torch.float32)
        with on_shim(shim, order):
            native.adam_step(found)
        assert largest_difference(found, expected) < 1e-6
        for before, after in zip(given, found, strict=True):
            if before.visible is not None:
                assert torch.equal(before.value[~before.visible], after.value[~before.visible])


def test_memory_that_is_not_aligned_is_stepped_alike(shim: ModuleType) -> None:
    """Tensors that begin within another one's memory need not lie at multiples of 16 bytes."""
    (aligned,) = parameters(torch.float32, shapes=[(40, 4)])

    def shifted(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros(1), tensor.flatten()])[1:].view(40, 4)

    names = ("value", "gradient", "exp_avg", "exp_avg_sq")
    other = replace(aligned, **{name: shifted(getattr(aligned, name)) for name in names})
    assert other.value.data_ptr() % 16 != 0
    with on_shim(shim):
        native.adam_step([aligned, other])
    assert torch.equal(aligned.value, other.value)


def test_a_map_is_one_launch(shim: ModuleType) -> None:
    with on_shim(shim):
        native.adam_step(parameters(torch.float32, shapes=_SHAPES[:5]))
        assert shim.launches() == 1 and shim.synchronizations() == 0
