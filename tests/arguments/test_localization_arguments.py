"""The command line of loc_inference.py: stages by list or by name."""

import pytest

from gsplatloc.arguments.localization import LocalizeArguments, parse_localize_arguments
from gsplatloc.localization.localizer import DEFAULT_STAGES, make_refiners
from gsplatloc.utils.errors import GSplatLocError


def _parsed(*words: str) -> LocalizeArguments:
    return parse_localize_arguments(["-m", "map", *words])


def test_without_a_word_the_default_stages_run() -> None:
    assert _parsed().options().stages == DEFAULT_STAGES
    assert _parsed().options().start == "initial"


@pytest.mark.parametrize("words", (("--refine", "gsloc"), ("--stages", "initial", "gsloc")))
def test_gsloc_is_asked_for_in_either_way(words: tuple[str, ...]) -> None:
    options = _parsed(*words).options()
    assert options.stages == ("initial", "gsloc")
    assert [refiner.name for refiner in make_refiners(options)] == ["gsloc"]


def test_an_unknown_refinement_is_a_user_error() -> None:
    with pytest.raises(GSplatLocError, match="gsloc.*--refine"):
        _parsed("--refine", "magic").options()


def test_retrieval_and_its_virtual_views_are_options() -> None:
    options = _parsed("--start", "retrieval", "--retrieval_views", "50").options()
    assert options.start == "retrieval"
    assert options.views.retrieval_views == 50


def test_keypoints_and_samples_are_those_of_every_stage() -> None:
    options = _parsed("--top_k", "9", "--ransac_iters", "50").options()
    assert (options.top_k, options.gscpr.top_k) == (9, 9)
    assert (options.pnp.max_iterations, options.gscpr.pnp.max_iterations) == (50, 50)
    assert options.gscpr.pnp.loss_scale_px == 4.0
