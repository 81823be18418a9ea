"""The demo prints errors and times, and fails where they are larger than demanded."""

from pathlib import Path

import pytest

from benchmarks import demo
from gsplatloc.utils.errors import GSplatLocError


def metrics(median_m: float | None = 0.001, median_deg: float | None = 0.02, recall: float = 1.0) -> dict:
    row = {
        "median_translation_m": median_m,
        "median_rotation_deg": median_deg,
        "recall": {"5cm_5deg": recall, "1cm_1deg": recall},
        "median_ms": 12.0,
    }
    return {"stages": {"initial": row}, "final": row, "count": 20, "failed": 0, "map_bytes": 1_000_000}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (metrics(median_m=0.05), "found 5.00 cm"),
        (metrics(median_m=None), "found inf cm"),
        (metrics(median_deg=2.0), r"found 2.000°"),
        (metrics(recall=0.5), "found 50%"),
    ],
    ids=["position", "half failed", "rotation", "recall"],
)
def test_a_poor_result_fails_with_what_was_found(found: dict, said: str) -> None:
    demo.check(metrics(), demo.DemoArguments())  # a good one passes
    with pytest.raises(GSplatLocError, match=said):
        demo.check(found, demo.DemoArguments())


def test_a_failing_step_stops_the_demo(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GSplatLocError, match="step 'mapping'"):
        demo.run("mapping", ["train.py", "--no_such_flag"])


def test_outputs_outside_of_the_project_are_passed_as_absolute_paths(tmp_path: Path) -> None:
    commands = demo.commands(demo.DemoArguments(output=tmp_path / "demo"))
    assert commands["localization"][-1] == str((tmp_path / "demo" / "map").resolve())
