"""Which iteration is a run's last, and which learning rates lead there."""

from dataclasses import replace
from typing import Any

import pytest

from gsplatloc.mapping.options import MappingOptions, ScheduleOptions, StoppingOptions
from gsplatloc.mapping.stopping import EarlyStop
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.utils.errors import GSplatLocError

OPTIONS = StoppingOptions(early_stop=2, early_stop_gain=0.5, early_stop_interval=10, early_stop_cooldown=20)


def decided() -> EarlyStop:
    """A stop that was decided after iteration 40 of 100."""
    stop = EarlyStop(OPTIONS, 100)
    assert [stop.observe(i, psnr) for i, psnr in ((20, 20.0), (30, 20.4), (40, 19.0))] == [False, False, True]
    return stop


def test_a_run_without_it_is_never_evaluated_for_it() -> None:
    stop = EarlyStop(StoppingOptions(), 100)
    assert not any(stop.due(i) for i in range(1, 101)) and stop.last_iteration == 100


def test_evaluations_are_due_at_the_interval_once_the_map_is_settled() -> None:
    stop = EarlyStop(OPTIONS, 60, settled=30)
    assert [i for i in range(1, 61) if stop.due(i)] == [40, 50, 60]


def test_a_gain_starts_the_count_anew() -> None:
    stop = EarlyStop(OPTIONS, 100)
    assert not any(stop.observe(i, psnr) for i, psnr in ((10, 20.0), (20, 20.1), (30, 20.6), (40, 20.5)))
    assert stop.observe(50, 20.7) and stop.last_iteration == 70


def test_small_gains_add_up() -> None:
    stop = EarlyStop(replace(OPTIONS, early_stop=3), 100)
    assert not any(stop.observe(10 * i, 20 + 0.3 * i) for i in range(1, 10))


def test_nothing_is_evaluated_during_the_cool_down() -> None:
    assert not any(decided().due(i) for i in range(41, 61))


def test_the_cool_down_runs_through_the_rest_of_the_schedule() -> None:
    stop = decided()
    assert stop.cooling_down and stop.last_iteration == 60
    assert [stop.schedule_iteration(i) for i in (40, 50, 60)] == [40, 70, 100]


def test_the_schedule_is_itself_until_then() -> None:
    assert EarlyStop(OPTIONS, 100).schedule_iteration(33) == 33


def test_a_late_decision_ends_no_later_than_the_schedule() -> None:
    stop = EarlyStop(replace(OPTIONS, early_stop=1), 100)
    stop.observe(80, 20.0)
    assert stop.observe(90, 20.0)
    assert stop.last_iteration == 100 and stop.schedule_iteration(95) == 95


def test_without_a_cool_down_it_ends_at_once() -> None:
    stop = EarlyStop(replace(OPTIONS, early_stop=1, early_stop_cooldown=0), 100)
    stop.observe(10, 20.0)
    assert stop.observe(20, 20.0)
    assert stop.last_iteration == 20 and stop.schedule_iteration(20) == 20


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
def test_it_goes_on_from_its_state(seen: int) -> None:
    figures = [(10, 20.0), (20, 20.1), (30, 20.2), (40, 25.0)]
    whole, resumed = EarlyStop(OPTIONS, 100), EarlyStop(OPTIONS, 100)
    for figure in figures[:seen]:
        whole.observe(*figure)
    resumed.load_state(whole.state())
    assert resumed.last_iteration == whole.last_iteration
    for figure in figures[seen:]:
        assert whole.observe(*figure) == resumed.observe(*figure)
    assert resumed.state() == whole.state()


def test_older_checkpoints_have_no_state() -> None:
    stop = EarlyStop(OPTIONS, 100)
    stop.load_state({})
    assert stop.last_iteration == 100


@pytest.mark.parametrize(
    ("field", "value"),
    [("early_stop", -1), ("early_stop_gain", -0.1), ("early_stop_interval", 0), ("early_stop_cooldown", -1)],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    with pytest.raises(GSplatLocError, match=field):
        StoppingOptions(**{field: value})


def test_an_early_stop_that_nothing_could_tell_is_refused() -> None:
    with pytest.raises(GSplatLocError, match="pass --holdout 16, or --early_stop 0"):
        MappingOptions(stopping=OPTIONS)


def test_a_map_is_settled_after_its_last_change_of_resolution_harmonics_or_opacities() -> None:
    schedule = ScheduleOptions(iterations=100, sh_degree=2, sh_interval=10, pyramid=(0.2, 0.5))
    fixed = DensificationOptions(densification="none")
    assert MappingOptions(schedule=schedule, densification=fixed).settled_iteration() == 50
    late = replace(schedule, sh_interval=30)
    assert MappingOptions(schedule=late, densification=fixed).settled_iteration() == 60
    resets = DensificationOptions(opacity_reset_interval=20, densify_until_iter=80)
    assert MappingOptions(schedule=schedule, densification=resets).settled_iteration() == 80
