"""The command line of loc_inference.py: stages by list or by name, options of every method."""

from pathlib import Path

import pytest

from gsplatloc.arguments.localization import LocalizeArguments, parse_localize_arguments
from gsplatloc.localization.initial.members import LandmarkMatchingOptions, RetrievalOptions
from gsplatloc.localization.options import DEFAULT_STAGES
from gsplatloc.localization.refine.members import GscprOptions, LmOptions, WarpOptions
from gsplatloc.utils.errors import GSplatLocError


def _parsed(*words: str) -> LocalizeArguments:
    return parse_localize_arguments(["-m", "map", *words])


def _settings(kind: type, *words: str):  # noqa: ANN202
    (found,) = [item for item in _parsed(*words).options().settings if isinstance(item, kind)]
    return found


def test_without_a_word_the_default_stages_run() -> None:
    assert _parsed().options().stages == DEFAULT_STAGES
    assert _parsed().options().initial == "landmarks"


@pytest.mark.parametrize(
    "words", (("--refine", "gsloc"), ("--stages", "gsloc"), ("--stages", "initial", "gsloc"))
)
def test_gsloc_is_asked_for_in_three_ways(words: tuple[str, ...]) -> None:
    assert _parsed(*words).options().chain() == ("initial", "gsloc")


def test_an_unknown_refinement_is_a_user_error() -> None:
    with pytest.raises(GSplatLocError, match="gsloc.*found magic"):
        _parsed("--refine", "magic").options().refinements()


@pytest.mark.parametrize("flag", ["--start", "--initial"])
def test_retrieval_and_its_virtual_views_are_options(flag: str) -> None:
    words = (flag, "retrieval", "--retrieval_views", "50")
    assert _parsed(*words).options().initial == "retrieval"
    assert _settings(RetrievalOptions, *words).views == 50


def test_keypoints_and_samples_are_those_of_every_stage() -> None:
    words = ("--top_k", "9", "--ransac_iters", "50")
    landmarks, gscpr = _settings(LandmarkMatchingOptions, *words), _settings(GscprOptions, *words)
    assert _parsed(*words).options().top_k == 9
    assert (landmarks.pnp.max_iterations, gscpr.pnp.max_iterations) == (50, 50)
    assert gscpr.pnp.loss_scale_px == 4.0


def test_every_option_of_a_registered_method_is_a_flag() -> None:
    assert _settings(LmOptions, "--lm.scale", "0.25").scale == 0.25


def test_the_familys_own_flags_keep_working() -> None:
    found = _settings(WarpOptions, "--warp_lr", "0.01", "--warp_iters", "9")
    assert (found.lr, found.iterations) == (0.01, 9)


@pytest.mark.parametrize(
    ("words", "folder"),
    (
        ((), "map/localization"),
        (("--queries", "photos"), "map/queries"),
        (("--queries", "map/scene/images"), "map/queries"),
        (("--queries", "photos", "--output", "photos-results"), "photos-results"),
    ),
)
def test_results_have_a_folder_of_their_own(words: tuple[str, ...], folder: str) -> None:
    assert _parsed(*words).results_folder() == Path(folder)
