"""Adam over a map: rates, moments that follow edits, and its state."""

import math
from dataclasses import replace

import pytest
import torch

from gsplatloc.gaussian_renderer import native
from gsplatloc.mapping.optimizer import MapOptimizer, position_rate
from gsplatloc.mapping.options import OptimizerOptions
from gsplatloc.scene.densification import Edit
from gsplatloc.scene.gaussians import Gaussians

OPTIONS = OptimizerOptions()


def gaussians(count: int = 4, degree: int = 1, decoder: bool = False) -> Gaussians:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sh = draw(count, (degree + 1) ** 2, 3)
    made = Gaussians(draw(count, 3), draw(count, 4), draw(count, 3), draw(count), sh, draw(count, 2))
    made.feature_decoder = draw(5, 2) if decoder else None
    return made


def loss(optimizer: MapOptimizer) -> torch.Tensor:
    parameters = optimizer.gaussians().parameters().values()
    return torch.stack(
        [((p - 0.3) ** 2 * (1 + torch.arange(p.numel()).view(p.shape))).sum() for p in parameters]
    ).sum()


def step(optimizer: MapOptimizer, iteration: int) -> None:
    loss(optimizer).backward()
    optimizer.step(iteration)


def test_the_first_step_is_as_long_as_the_rates() -> None:
    before, optimizer = gaussians(decoder=True), MapOptimizer(gaussians(decoder=True), OPTIONS, extent=2.0)
    step(optimizer, 0)
    after = optimizer.gaussians()
    moved = {
        name: (new - old).abs()
        for (name, old), new in zip(before.parameters().items(), after.parameters().values())
    }
    assert moved["means"].mean().item() == pytest.approx(2 * 1.6e-4, rel=1e-2)
    assert moved["sh"][:, 0].mean().item() == pytest.approx(0.0025, rel=1e-2)
    assert moved["sh"][:, 1:].mean().item() == pytest.approx(0.0025 / 20, rel=1e-2)
    rates = {"quaternions": 0.001, "log_scales": 0.005, "opacity_logits": 0.05, "features": 0.001}
    for name, rate in (rates | {"feature_decoder": 0.001}).items():
        assert moved[name].mean().item() == pytest.approx(rate, rel=1e-2), name


def test_the_position_rate_decays_exponentially() -> None:
    assert position_rate(OPTIONS, 0) == pytest.approx(1.6e-4)
    assert position_rate(OPTIONS, 15_000) == pytest.approx(1.6e-5)
    assert position_rate(OPTIONS, 30_000) == pytest.approx(1.6e-6)
    assert position_rate(OPTIONS, 99_000) == pytest.approx(1.6e-6)


def test_the_delay_holds_the_position_rate_back_at_first() -> None:
    delayed = OptimizerOptions(position_lr_delay_steps=100, position_lr_delay_mult=0.01)
    assert position_rate(delayed, 0) == pytest.approx(0.01 * position_rate(OPTIONS, 0))
    half = 0.01 + 0.99 * math.sin(math.pi / 4)
    assert position_rate(delayed, 50) == pytest.approx(half * position_rate(OPTIONS, 50))
    assert position_rate(delayed, 100) == pytest.approx(position_rate(OPTIONS, 100))


def test_a_parameter_without_a_gradient_stays() -> None:
    optimizer = MapOptimizer(gaussians(), OPTIONS, 1.0)
    optimizer.gaussians().means.sum().backward()
    optimizer.step(1)
    assert torch.equal(optimizer.gaussians().features, gaussians().features)


def test_harmonics_that_are_not_in_use_are_left_out_as_if_their_gradient_were_zero() -> None:
    whole, constant = (MapOptimizer(gaussians(), OPTIONS, 1.0) for _ in range(2))
    for iteration in range(1, 7):
        unused = iteration <= 3
        for optimizer, left_out in ((whole, False), (constant, unused)):
            sh = optimizer.gaussians(left_out).sh
            assert sh.shape[1] == (1 if left_out else 4)
            used = sh[:, :1] if unused else sh
            (used * (1 + used)).sum().backward()
            optimizer.step(iteration)
    assert torch.equal(whole.gaussians().sh, constant.gaussians().sh)
    assert not torch.equal(whole.gaussians().sh[:, 1:], gaussians().sh[:, 1:])


def test_moments_follow_their_gaussians_through_an_edit() -> None:
    """Reordered Gaussians must go on exactly as they would have in the old order."""
    order = torch.tensor([2, 0, 3, 1])
    plain, edited = (MapOptimizer(gaussians(), OPTIONS, 1.0) for _ in range(2))

    def pull(optimizer: MapOptimizer, rows: torch.Tensor) -> None:
        weights = torch.arange(1.0, 5.0)[rows]
        sum(
            (p.flatten(1).sum(1) * weights).sum()
            for p in map(rows_first, optimizer.gaussians().per_gaussian().values())
        ).backward()  # type: ignore[union-attr]
        optimizer.step(1)

    def rows_first(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(len(tensor), -1) ** 2

    identity = torch.arange(4)
    pull(plain, identity)
    pull(edited, identity)
    edited.apply(Edit(edited.gaussians().detach().select(order), order, torch.zeros(4, dtype=torch.bool)))
    pull(plain, identity)
    pull(edited, order)
    for name, tensor in plain.gaussians().per_gaussian().items():
        assert torch.equal(tensor[order], edited.gaussians().per_gaussian()[name]), name


def test_fresh_gaussians_start_without_moments() -> None:
    optimizer = MapOptimizer(gaussians(), OPTIONS, 1.0)
    step(optimizer, 1)
    parents = torch.tensor([0, 1, 2, 3, 3])
    fresh = torch.tensor([False, False, False, False, True])
    optimizer.apply(Edit(optimizer.gaussians().detach().select(parents), parents, fresh))
    state = optimizer.state()
    assert len(optimizer) == 5
    assert not state["means.exp_avg"][4].any() and state["means.exp_avg"][3].any()


def test_a_restarted_parameter_loses_its_moments() -> None:
    optimizer = MapOptimizer(gaussians(), OPTIONS, 1.0)
    step(optimizer, 1)
    rows = torch.arange(4)
    none = torch.zeros(4, dtype=torch.bool)
    optimizer.apply(Edit(optimizer.gaussians().detach(), rows, none, restarted=("opacity_logits", "sh")))
    state = optimizer.state()
    for name in ("opacity_logits", "sh_base", "sh_rest"):
        assert not state[f"{name}.exp_avg_sq"].any()
    assert state["means.exp_avg_sq"].any()


@pytest.mark.parametrize("decoder", [False, True])
def test_it_goes_on_from_its_state_bit_by_bit(decoder: bool) -> None:
    optimizer = MapOptimizer(gaussians(decoder=decoder), OPTIONS, 1.0)
    for iteration in range(3):
        step(optimizer, iteration)
    state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    other = MapOptimizer.from_state(state, OPTIONS, 1.0, torch.device("cpu"))
    for iteration in range(3, 6):
        step(optimizer, iteration)
        step(other, iteration)
    for name, tensor in optimizer.state().items():
        assert torch.equal(tensor, other.state()[name]), name


def test_a_run_is_that_of_torchs_adam() -> None:
    ours = MapOptimizer(gaussians(), OPTIONS, 1.0)
    theirs = {
        name: p.clone().requires_grad_() for name, p in gaussians().per_gaussian().items() if name != "sh"
    }
    rates = {
        "means": 0.0,
        "quaternions": 0.001,
        "log_scales": 0.005,
        "opacity_logits": 0.05,
        "features": 0.001,
    }
    adam = torch.optim.Adam(
        [{"params": [theirs[name]], "lr": rate} for name, rate in rates.items()], eps=1e-15
    )
    for iteration in range(5):
        adam.param_groups[0]["lr"] = ours.position_lr(iteration)
        for name, leaf in theirs.items():
            leaf.grad = torch.full_like(leaf, 0.1 * iteration) + leaf.detach()
            getattr(ours.gaussians(), name).backward(leaf.grad)
        ours.step(iteration)
        adam.step()
    for name, leaf in theirs.items():
        assert torch.allclose(getattr(ours.gaussians(), name), leaf, rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_adam_leaves_what_is_not_visible(sparse: bool) -> None:
    optimizer = MapOptimizer(gaussians(decoder=True), replace(OPTIONS, sparse_adam=sparse), 1.0)
    visible = torch.tensor([True, False, True, False])
    for iteration in range(2):
        loss(optimizer).backward()
        optimizer.step(iteration, visible)
    before, after = gaussians(decoder=True).parameters(), optimizer.gaussians().parameters()
    for name in gaussians().per_gaussian():
        moved = (before[name] != after[name]).reshape(4, -1).any(1)
        assert torch.equal(moved, visible if sparse else torch.ones(4, dtype=torch.bool)), name
    assert not torch.equal(before["feature_decoder"], after["feature_decoder"])


def test_without_the_native_package_torch_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    finals = []
    for package in (native.package_for, lambda tensor: None):
        monkeypatch.setattr(native, "package_for", package)
        optimizer = MapOptimizer(gaussians(), OPTIONS, 1.0)
        for iteration in range(3):
            step(optimizer, iteration)
        finals.append(optimizer.gaussians().parameters())
    for name, tensor in finals[0].items():
        assert torch.allclose(tensor, finals[1][name], rtol=1e-5, atol=1e-7), name
