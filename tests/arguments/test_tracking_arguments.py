"""The command line of track_rgbd.py: few flags, which reach the options of tracking."""

import pytest

from gsplatloc.arguments.tracking import TrackingArguments, parse_tracking_arguments
from gsplatloc.tracking.options import TrackingOptions


def parsed(*words: str) -> TrackingArguments:
    return parse_tracking_arguments(["-s", "scene", "-m", "map", *words])


def test_without_flags_the_options_are_the_defaults() -> None:
    assert parsed().tracking() == TrackingOptions()


@pytest.mark.parametrize(
    "prefixes", [("frames.", "lm.", "gsplatloc."), ("", "", "")], ids=["former", "short"]
)
def test_flags_reach_the_options_under_both_names(prefixes: tuple[str, str, str]) -> None:
    frames, lm, gsplatloc = prefixes
    words = (f"--{frames}side", "100", f"--{lm}depth_weight", "0", f"--{gsplatloc}iterations", "5")
    options = parsed("--method", "gsplatloc", *words).tracking()
    assert (options.method, options.frames.side) == ("gsplatloc", 100)
    assert (options.lm.depth_weight, options.gsplatloc.iterations) == (0, 5)


def test_a_range_includes_its_last_frame() -> None:
    assert parsed("--first", "2", "--last", "4").range() == slice(2, 5)
    assert parsed().range() == slice(0, None)
