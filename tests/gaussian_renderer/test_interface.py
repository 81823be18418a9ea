"""The library and the native package tell each other which interface they have, and refuse another one."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from gsplatloc.gaussian_renderer import native
from gsplatloc.utils.errors import GSplatLocError

package = pytest.importorskip("gsplatloc_kernels")

CALLERS: dict[str, Callable[[], ModuleType | None]] = {
    "training": lambda: native.package_for(torch.zeros(1)),
    "alignment": native.alignment,
    "matching": native.matching,
}


@pytest.fixture(params=["older", "another"])
def found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the error says of a package without a number, as built before there was one, or with another."""
    if request.param == "older":
        monkeypatch.delattr(package, "INTERFACE")
        return "one without a number"
    monkeypatch.setattr(package, "INTERFACE", 999)
    return "999"


@pytest.mark.parametrize("caller", CALLERS)
def test_a_package_of_another_interface_is_refused(caller: str, found: str) -> None:
    with pytest.raises(GSplatLocError) as caught:
        CALLERS[caller]()
    message = str(caught.value)
    assert f"with interface {native.INTERFACE}, found {found} in {package.__file__}" in message
    assert "install both from the same sources" in message and "\n" not in message


def test_it_is_the_reason_why_no_gpu_is_used(found: str) -> None:
    assert found in str(native.cuda_problem())


@pytest.mark.parametrize("caller", CALLERS)
def test_the_package_of_this_version_is_used(caller: str) -> None:
    assert CALLERS[caller]() is not None
