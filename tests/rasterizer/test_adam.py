"""Fused Adam against torch's, and against the torch code that defines it where rows are left out."""

from dataclasses import replace

import pytest
import torch

import gsplatloc_kernels as native
from gsplatloc.mapping import reference
from tests.rasterizer.support import available_isas

_BETAS, _EPS = (0.9, 0.999), 1e-15
_SHAPES = [(40, 3), (40,), (40, 15, 3), (40, 17), (0, 4), (40, 0, 3), (9, 5)]


def parameters(
    dtype: torch.dtype, step: int = 3, visible: torch.Tensor | None = None, shapes: list = _SHAPES
) -> list[native.AdamParameter]:
    """Parameters in the middle of a run, with gradients of a mean over pixels."""
    generator = torch.Generator().manual_seed(1)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    made = []
    for shape in shapes:
        fields = draw(shape), draw(shape) * 1e-5, draw(shape) * 1e-5, draw(shape).square() * 1e-10
        rows = visible if visible is not None and len(visible) == shape[0] else None
        made.append(native.AdamParameter(*(field.to(dtype) for field in fields), 0.01, step, rows))
    return made


def copied(given: list[native.AdamParameter], dtype: torch.dtype) -> list[native.AdamParameter]:
    names = ("value", "gradient", "exp_avg", "exp_avg_sq")
    return [
        replace(each, **{name: getattr(each, name).to(dtype, copy=True) for name in names}) for each in given
    ]


def largest_difference(found: list[native.AdamParameter], expected: list[native.AdamParameter]) -> float:
    """Relative to the largest number of each tensor."""
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("value", "exp_avg", "exp_avg_sq"):
            a, b = getattr(ours, name).double(), getattr(theirs, name).double()
            if b.numel():
                worst = max(worst, ((a - b).abs().max() / b.abs().max()).item())
    return worst


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_steps_are_those_of_torch(dtype: torch.dtype, tolerance: float) -> None:
    ours = parameters(dtype, step=1)
    for each in ours:
        each.exp_avg.zero_(), each.exp_avg_sq.zero_()  # type: ignore[func-returns-value]
    theirs = [each.value.clone().requires_grad_() for each in ours]
    adam = torch.optim.Adam(theirs, lr=0.01, betas=_BETAS, eps=_EPS)
    for step in range(1, 6):
        for leaf, each in zip(theirs, ours, strict=True):
            leaf.grad = each.gradient * step
        adam.step()
        native.adam_step([replace(p, gradient=p.gradient * step, step=step) for p in ours], _BETAS, _EPS)
    expected = [
        replace(
            p,
            value=leaf.detach(),
            exp_avg=adam.state[leaf]["exp_avg"],
            exp_avg_sq=adam.state[leaf]["exp_avg_sq"],
        )
        for p, leaf in zip(ours, theirs, strict=True)
    ]
    assert largest_difference(ours, expected) < tolerance


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_visible_rows_step_and_others_stay(dtype: torch.dtype, tolerance: float, share: float) -> None:
    visible = torch.rand(40, generator=torch.Generator().manual_seed(2)) < share
    before = parameters(dtype, visible=visible)
    found, expected = copied(before, dtype), copied(before, torch.float64)
    native.adam_step(found, _BETAS, _EPS)
    reference.adam_step(expected, _BETAS, _EPS)
    assert largest_difference(found, expected) < tolerance
    for old, new in zip(before[:4], found[:4], strict=True):
        for name in ("value", "exp_avg", "exp_avg_sq"):
            assert torch.equal(getattr(old, name)[~visible], getattr(new, name)[~visible])


def test_nan_of_an_invisible_row_stays_there() -> None:
    visible = torch.ones(40, dtype=torch.bool)
    visible[7] = False
    (found,) = parameters(torch.float32, visible=visible, shapes=[(40, 3)])
    found.gradient[7] = torch.nan
    native.adam_step([found], _BETAS, _EPS)
    assert found.value.isfinite().all()


def test_a_row_steps_alike_wherever_it_stands() -> None:
    """Which lane of a vector a number falls into must not show."""
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    (plain,) = parameters(torch.float32, shapes=[(40, 3)])
    names = ("value", "gradient", "exp_avg", "exp_avg_sq")
    mixed = replace(plain, **{name: getattr(plain, name)[order] for name in names})
    native.adam_step([plain, mixed], _BETAS, _EPS)
    assert torch.equal(plain.value[order], mixed.value)


def test_results_do_not_depend_on_the_thread_count() -> None:
    shapes = [(30_000, 3), (30_000, 45)]
    one, two = (parameters(torch.float32, shapes=shapes) for _ in range(2))
    native.adam_step(one, threads=1)
    native.adam_step(two, threads=2)
    assert largest_difference(one, two) == 0


def test_every_instruction_set_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    visible = torch.rand(40, generator=torch.Generator().manual_seed(4)) < 0.5
    results = []
    for isa in available_isas():
        monkeypatch.setenv("GSPLAT_ISA", isa)
        results.append(parameters(torch.float32, visible=visible))
        native.adam_step(results[-1])
    assert max(largest_difference(result, results[0]) for result in results) < 1e-6


def test_nothing_to_step_is_no_error() -> None:
    assert native.adam_step([]) is None


def test_tensors_that_do_not_fit_are_refused() -> None:
    (good,) = parameters(torch.float32, shapes=[(40, 3)])
    with pytest.raises(ValueError, match=r"shape \[40, 3\]"):
        native.adam_step([replace(good, exp_avg=good.exp_avg[1:])])
    with pytest.raises(ValueError, match="contiguous"):
        native.adam_step([replace(good, gradient=good.gradient.t().contiguous().t())])
    with pytest.raises(TypeError, match="float32"):
        native.adam_step([replace(good, gradient=good.gradient.double())])
    with pytest.raises(ValueError, match="step"):
        native.adam_step([replace(good, step=0)])
    with pytest.raises(ValueError, match="bool"):
        native.adam_step([replace(good, visible=torch.ones(40))])
    with pytest.raises(ValueError, match="meta"):
        native.adam_step([replace(good, gradient=good.gradient.to("meta"))])
