"""What an iteration works on."""

import pytest

from gsplatloc.mapping.options import ScheduleOptions
from gsplatloc.mapping.schedule import ViewOrder
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils.errors import GSplatLocError

CAMERA = Camera(20, 15, 10.0, 10.0, 10.0, 7.5)  # 300 pixels


def test_every_view_comes_once_per_pass() -> None:
    order = ViewOrder(5, seed=0)
    for _ in range(3):
        assert sorted(order.advance() for _ in range(5)) == [0, 1, 2, 3, 4]


def test_looking_ahead_does_not_change_what_comes() -> None:
    watched, plain = ViewOrder(3, seed=1), ViewOrder(3, seed=1)
    for _ in range(10):
        expected = watched.upcoming(5)
        assert watched.advance() == expected[0] == plain.advance()


def test_the_order_goes_on_from_its_state() -> None:
    order = ViewOrder(4, seed=2)
    for _ in range(6):
        order.upcoming(3)
        order.advance()
    other = ViewOrder(4, seed=99)
    other.load_state(order.state())
    assert [order.advance() for _ in range(12)] == [other.advance() for _ in range(12)]


def test_resolution_doubles_at_the_fractions() -> None:
    options = ScheduleOptions(iterations=100, pyramid=(0.2, 0.5))
    scales = [options.scale(CAMERA, i) for i in (1, 20, 21, 50, 51, 100)]
    assert scales == [0.25, 0.25, 0.5, 0.5, 1, 1]
    assert ScheduleOptions(iterations=100).scale(CAMERA, 1) == 1


def test_resolution_rises_in_smaller_steps_if_asked_to() -> None:
    options = ScheduleOptions(iterations=100, pyramid=(0.2, 0.5), pyramid_step=1.5)
    scales = [options.scale(CAMERA, i) for i in (20, 21, 51)]
    assert scales == pytest.approx([1 / 2.25, 1 / 1.5, 1])


def test_large_images_are_trained_smaller() -> None:
    options = ScheduleOptions(iterations=100, train_pixels=75, pyramid=(0.5,))
    assert options.full_scale(CAMERA) == options.scale(CAMERA, 51) == 0.5
    assert options.scale(CAMERA, 1) == 0.25
    assert ScheduleOptions(train_pixels=300).full_scale(CAMERA) == 1


def test_images_of_the_feature_maps_size_can_be_trained_on() -> None:
    options = ScheduleOptions(iterations=100, train_pixels=75, pyramid=(0.5,))
    assert options.full_scale(CAMERA, cell=8) == options.scale(CAMERA, 51, cell=8) == 1 / 8


def test_a_degree_is_added_at_every_interval_up_to_the_highest() -> None:
    options = ScheduleOptions(sh_degree=2)
    assert [options.degree(i) for i in (1, 999, 1000, 2000, 9000)] == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sh_degree", 4),
        ("iterations", -1),
        ("holdout", 1),
        ("pyramid", (0.5, 0.2)),
        ("pyramid_step", 1.0),
        ("pyramid_step", float("nan")),
    ],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: object) -> None:
    with pytest.raises(GSplatLocError, match=field):
        ScheduleOptions(**{field: value})  # type: ignore[arg-type]
