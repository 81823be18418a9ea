"""Which Gaussians are added, dropped, split and moved."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gsplatloc.scene.densification import (
    AdaptiveDensityControl,
    Densification,
    DensificationOptions,
    Edit,
    MarkovChainMonteCarlo,
    Observation,
    make_densification,
)
from gsplatloc.scene.densification.mcmc import shared_opacity_and_scale
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils.errors import GSplatLocError

OPTIONS = DensificationOptions(densify_from_iter=0, densification_interval=10, opacity_reset_interval=1000)
EXTENT = 10.0  # metres: with percent_dense = 0.01, Gaussians above 0.1 m are split


def gaussians(scales: list[float], opacities: list[float] | None = None) -> Gaussians:
    count = len(scales)
    opacity = torch.tensor(opacities or [0.5] * count)
    return Gaussians(
        means=torch.arange(count * 3.0).reshape(count, 3),
        quaternions=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        log_scales=torch.tensor(scales).log()[:, None].repeat(1, 3),
        opacity_logits=torch.logit(opacity),
        sh=torch.rand(count, 1, 3, generator=generator()),
        features=torch.rand(count, 2, generator=generator()),
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def observation(pulls: list[float], radii: list[int] | None = None, width: int = 200) -> Observation:
    """Gradients in normalised device coordinates, as the threshold states them, at a square image."""
    gradients = torch.zeros(len(pulls), 2)
    gradients[:, 0] = torch.tensor(pulls) / (width / 2)
    return Observation(torch.tensor(radii or [5] * len(pulls), dtype=torch.int32), gradients, width, width)


def control(
    options: DensificationOptions, pulls: list[float], radii: list[int] | None = None
) -> AdaptiveDensityControl:
    adc = AdaptiveDensityControl(options, EXTENT, len(pulls))
    adc.observe(observation(pulls, radii))
    return adc


def edit_of(adc: AdaptiveDensityControl, before: Gaussians, iteration: int = 10) -> Edit:
    edit = adc.edit(iteration, before, generator())
    assert edit is not None
    return edit


def test_a_small_gaussian_under_pull_is_cloned() -> None:
    before = gaussians([0.05, 0.05])
    edit = edit_of(control(OPTIONS, [0.0, 1e-3]), before)
    assert edit.parents.tolist() == [0, 1, 1]
    assert edit.fresh.tolist() == [False, False, True]
    assert torch.equal(edit.gaussians.means[2], before.means[1])


def test_a_large_gaussian_under_pull_is_split_into_two_smaller_ones() -> None:
    before = gaussians([0.05, 0.4])
    edit = edit_of(control(OPTIONS, [0.0, 1e-3]), before)
    assert edit.parents.tolist() == [0, 1, 1]
    assert torch.allclose(edit.gaussians.scales[1:], torch.tensor(0.4 / 1.6))
    offsets = edit.gaussians.means[1:] - before.means[1]
    assert not torch.equal(offsets[0], offsets[1]) and offsets.abs().max() < 5 * 0.4


def test_split_samples_follow_the_gaussians_orientation() -> None:
    before = gaussians([0.4])
    before.log_scales = torch.tensor([[2.0, 1e-6, 1e-6]]).log()
    half = math.sqrt(0.5)
    before.quaternions = torch.tensor([[half, 0, 0, half]])  # a quarter turn around z: its long axis is y
    edit = edit_of(control(OPTIONS, [1e-3]), before)
    offsets = (edit.gaussians.means - before.means[0]).abs()
    assert (offsets[:, [0, 2]] < 1e-4).all() and (offsets[:, 1] > 1e-3).all()


def test_the_threshold_is_stated_in_normalised_device_coordinates() -> None:
    adc = AdaptiveDensityControl(OPTIONS, EXTENT, 1)
    pull_per_pixel = torch.tensor([[1.01 * OPTIONS.densify_grad_threshold / 320, 0.0]])
    adc.observe(Observation(torch.ones(1, dtype=torch.int32), pull_per_pixel, 640, 480))
    assert len(edit_of(adc, gaussians([0.05])).gaussians) == 2


def test_the_mean_is_over_the_iterations_that_saw_the_gaussian() -> None:
    adc = AdaptiveDensityControl(OPTIONS, EXTENT, 1)
    adc.observe(observation([3e-4]))
    for _ in range(7):
        adc.observe(observation([0.0], radii=[0]))
    assert len(edit_of(adc, gaussians([0.05])).gaussians) == 2


def test_gradients_of_centres_are_wanted_until_the_last_edit() -> None:
    last = OPTIONS.densify_until_iter
    made = make_densification(OPTIONS, EXTENT, 1)
    assert [made.observes(iteration) for iteration in (1, last, last + 1)] == [True, True, False]


@pytest.mark.parametrize("kind", ["mcmc", "none"])
def test_other_kinds_want_no_gradients_of_centres(kind: str) -> None:
    made = make_densification(replace(OPTIONS, densification=kind), EXTENT, 1)  # type: ignore[arg-type]
    assert not made.observes(1)


def test_transparent_gaussians_are_dropped() -> None:
    edit = edit_of(control(OPTIONS, [0.0, 0.0]), gaussians([0.05, 0.05], [0.004, 0.5]))
    assert edit.parents.tolist() == [1]


def test_a_transparent_gaussian_under_pull_leaves_no_copy() -> None:
    before = gaussians([0.05, 0.4, 0.05], [0.004, 0.004, 0.5])
    assert edit_of(control(OPTIONS, [1e-3, 1e-3, 0.0]), before).parents.tolist() == [2]


def test_opacities_are_never_reset_at_an_interval_of_zero() -> None:
    adc = control(replace(OPTIONS, opacity_reset_interval=0, densify_from_iter=500), [0.0])
    assert all(adc.edit(iteration, gaussians([5.0]), generator()) is None for iteration in range(1, 500))


def test_a_densification_interval_of_zero_is_a_users_error() -> None:
    with pytest.raises(GSplatLocError, match="densification_interval"):
        DensificationOptions(densification_interval=0)


def test_large_ones_are_dropped_only_after_the_first_opacity_reset() -> None:
    before = gaussians([0.05, 1.5, 0.05])
    assert edit_of(control(OPTIONS, [0.0] * 3), before).parents.tolist() == [0, 1, 2]
    assert edit_of(control(OPTIONS, [0.0] * 3), before, 1010).parents.tolist() == [0, 2]


def test_a_small_one_near_a_camera_is_kept_however_large_it_appears() -> None:
    adc = control(OPTIONS, [0.0], radii=[60])
    assert edit_of(adc, gaussians([0.05]), 1010).parents.tolist() == [0]


def test_the_cap_lets_the_largest_gradients_in() -> None:
    options = replace(OPTIONS, max_gaussians=5)
    edit = edit_of(control(options, [1e-3, 4e-3, 2e-3, 3e-3]), gaussians([0.05] * 4))
    assert sorted(edit.parents.tolist()) == [0, 1, 1, 2, 3]


def test_opacities_are_reset_and_their_moments_with_them() -> None:
    options = replace(OPTIONS, densify_from_iter=500)
    adc = control(options, [0.0, 0.0])
    edit = edit_of(adc, gaussians([0.05, 0.05], [0.9, 0.006]), 1000)
    assert edit.gaussians.opacities.tolist() == pytest.approx([0.01, 0.006])
    assert edit.restarted == ("opacity_logits",) and not edit.fresh.any()


def test_nothing_happens_outside_of_the_interval() -> None:
    options = replace(OPTIONS, densify_from_iter=50, densify_until_iter=100)
    for iteration in (40, 55, 110, 2000):
        assert control(options, [1.0]).edit(iteration, gaussians([0.05]), generator()) is None


def test_accumulators_start_over_after_an_edit() -> None:
    adc = control(OPTIONS, [1e-3])
    first = edit_of(adc, gaussians([0.05]))
    assert len(edit_of(adc, first.gaussians, 20).gaussians) == 2


def test_adc_goes_on_from_its_state() -> None:
    adc = control(OPTIONS, [1e-3, 0.0])
    other = AdaptiveDensityControl(OPTIONS, EXTENT, 0)
    other.load_state(adc.state())
    before = gaussians([0.4, 0.05])
    assert torch.equal(edit_of(adc, before).gaussians.means, edit_of(other, before).gaussians.means)


def test_dead_gaussians_move_onto_living_ones() -> None:
    before = gaussians([0.05, 0.05], [0.001, 0.8])
    options = replace(OPTIONS, max_gaussians=2)
    edit = MarkovChainMonteCarlo(options).edit(10, before, generator())
    assert edit is not None
    assert edit.parents.tolist() == [1, 1] and edit.fresh.tolist() == [True, True]
    assert torch.equal(edit.gaussians.means[0], before.means[1])
    assert edit.gaussians.opacities.tolist() == pytest.approx([1 - math.sqrt(0.2)] * 2)


def test_mcmc_grows_by_five_percent_up_to_the_cap() -> None:
    before = gaussians([0.05] * 100)
    for cap, expected in ((1000, 105), (103, 103), (50, 100)):
        edit = MarkovChainMonteCarlo(replace(OPTIONS, max_gaussians=cap)).edit(10, before, generator())
        assert edit is not None and len(edit.gaussians) == expected


def test_copies_at_one_place_look_like_the_original() -> None:
    """Along a ray through the centres the accumulated alpha stays, and so does the total of the footprint."""
    opacity, copies = torch.tensor([0.9]), torch.tensor([3])
    shared, scales = shared_opacity_and_scale(opacity, torch.ones(1, 3), copies)
    assert (1 - (1 - shared.item()) ** 3) == pytest.approx(0.9)
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    single = 0.9 * torch.exp(-(x**2) / 2)
    alpha = shared.double() * torch.exp(-(x**2) / (2 * scales[0, 0].double() ** 2))
    assert (1 - (1 - alpha) ** 3).sum().item() == pytest.approx(single.sum().item(), rel=1e-4)


def test_a_single_copy_is_left_as_it_is() -> None:
    shared, scales = shared_opacity_and_scale(torch.tensor([0.3]), torch.full((1, 3), 0.2), torch.tensor([1]))
    assert shared.item() == pytest.approx(0.3) and scales[0].tolist() == pytest.approx([0.2] * 3)


def test_noise_reaches_transparent_gaussians_along_their_large_axes() -> None:
    before = gaussians([0.1, 0.1], [0.001, 0.9])
    before.log_scales[0] = torch.tensor([0.1, 1e-4, 0.1]).log()
    noise = MarkovChainMonteCarlo(OPTIONS).position_noise(5, before, 1e-4, generator())
    assert noise is not None
    assert noise[0, 0].abs() > 1e-3 and noise[0, 1].abs() < 1e-5 and noise[1].abs().max() < 1e-9


def test_regularisation_pulls_at_opacity_and_scale() -> None:
    term = MarkovChainMonteCarlo(OPTIONS).regularization(1, gaussians([0.1, 0.3], [0.2, 0.6]))
    assert term is not None and term.item() == pytest.approx(0.01 * 0.4 + 0.01 * 0.2, rel=1e-5)


@pytest.mark.parametrize("kind", ["adc", "mcmc"])
def test_sampling_depends_on_the_generator_alone(kind: str) -> None:
    def once() -> Tensor:
        made = make_densification(replace(OPTIONS, densification=kind), EXTENT, 3)  # type: ignore[arg-type]
        made.observe(observation([1e-3, 0.0, 1e-3]))
        edit = made.edit(10, gaussians([0.4, 0.4, 0.4], [0.001, 0.5, 0.6]), generator())
        assert edit is not None
        return edit.gaussians.means

    assert torch.equal(once(), once())


def test_a_fixed_set_stays() -> None:
    fixed = make_densification(replace(OPTIONS, densification="none"), EXTENT, 1)
    assert type(fixed) is Densification
    assert fixed.edit(10, gaussians([0.4]), generator()) is None


@pytest.mark.parametrize("kind", ["adc", "mcmc", "none"])
def test_an_edit_is_due_where_there_is_one(kind: str) -> None:
    options = replace(OPTIONS, densification=kind, densify_until_iter=45, opacity_reset_interval=15)
    expected = {"adc": [10, 15, 20, 30, 40], "mcmc": [10, 20, 30, 40], "none": []}[kind]
    due, changed = [], []
    for iteration in range(1, 60):
        densification = make_densification(options, EXTENT, 3)
        if densification.due(iteration):
            due.append(iteration)
        if densification.edit(iteration, gaussians([0.4, 0.4, 0.4]), generator()) is not None:
            changed.append(iteration)
    assert due == changed == expected
