"""Photos in another light: how they are changed, and the table."""

from pathlib import Path

import numpy as np

from benchmarks.exposure import Light, line, table
from gsplatloc.scene.cameras import Camera, View
from tests.benchmarks.test_pose_refinement import TRUTH

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


def test_no_light_is_no_change() -> None:
    assert np.array_equal(Light(0, 0, 0).of(PHOTO, "a.png"), PHOTO)


def test_a_photo_has_the_same_light_in_every_run_and_another_than_others() -> None:
    assert np.array_equal(Light().of(PHOTO, "a.png"), Light().of(PHOTO, "a.png"))
    assert not np.array_equal(Light().of(PHOTO, "a.png"), Light().of(PHOTO, "b.png"))


def test_colours_change_each_on_its_own_but_keep_their_order() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    changed = Light().of(ramp, "a.png").astype(int)
    assert (np.diff(changed, axis=1) >= 0).all()
    assert len({tuple(column) for column in changed[0].T}) == 3


def test_a_view_keeps_its_own_image() -> None:
    view = View("a.png", Camera(8, 6, 8.0, 8.0, 4.0, 3.0), TRUTH, Path(), lambda: PHOTO)
    assert np.array_equal(Light().on(view).load_image(), Light().of(PHOTO, "a.png"))
    assert np.array_equal(view.load_image(), PHOTO)


def test_a_row_is_a_line_of_a_table() -> None:
    figures = {
        "light": None, "map": "act", "variant": "affine", "psnr": 23.04, "median_translation_m": 0.005,
        "median_rotation_deg": 0.15, "recall": {"5cm_5deg": 1.0, "1cm_1deg": 0.8},
    }  # fmt: skip
    expected = "| as they are | act | affine | 23.0 | 0.500 cm / 0.150° | 100.0 % | 80.0 % |"
    assert line(figures) == expected == table([figures]).splitlines()[2]
    assert line({**figures, "light": {}}).startswith("| other light |")
