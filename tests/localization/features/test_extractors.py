"""What holds for every registered extractor."""

from dataclasses import dataclass, replace

import pytest

from gsplatloc.localization.features import EXTRACTORS, make_extractor
from gsplatloc.localization.features.xfeat import XFeatExtractor
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class CornerOptions:
    threshold: float = 0.1  # of the corner response


def test_a_version_without_the_name_is_a_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map remembers the version, and queries find the extractor by it."""
    extractor = XFeatExtractor()
    extractor.version = "1"
    other = replace(EXTRACTORS["xfeat"], make=lambda options, device, top_k: extractor)
    monkeypatch.setitem(EXTRACTORS._entries, "xfeat", other)
    with pytest.raises(GSplatLocError, match="starts with xfeat-, found '1'"):
        make_extractor("xfeat")


def test_a_name_with_a_hyphen_is_refused() -> None:
    with pytest.raises(GSplatLocError, match="found 'my-net'"):
        EXTRACTORS.register("my-net")(lambda options, device, top_k: XFeatExtractor())


def test_options_that_nothing_could_set_are_refused() -> None:
    with pytest.raises(GSplatLocError, match="'corners' without options"):
        EXTRACTORS.register("corners", CornerOptions)(lambda options, device, top_k: XFeatExtractor())
