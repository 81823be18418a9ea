"""The library and the native package tell each other which interface they have, and refuse another one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


def test_a_native_module_that_the_package_refuses_is_one_line(tmp_path: Path) -> None:
    """A copy of the package, with a module that was built before there was a number."""
    copy = tmp_path / "gsplatloc_kernels"
    copy.mkdir()
    for source in Path(package.__file__).parent.glob("*.py"):
        (copy / source.name).write_text(source.read_text())
    (copy / "_core.py").touch()
    code = "from gsplatloc.gaussian_renderer import native; native.matching()"
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    line = run.stderr.splitlines()[-1]
    assert line.startswith("gsplatloc.utils.errors.GSplatLocError: expected a native module with interface")
    assert f"in {copy / '_core.py'}: it was built from other sources" in line


def test_a_cuda_half_that_the_package_refuses_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> bool:
        raise ImportError("expected a native module with interface 1, found 2")

    monkeypatch.setattr(package, "has_cuda", refuse)
    assert native.cuda_problem() == "expected a native module with interface 1, found 2"


@pytest.mark.parametrize("caller", CALLERS)
def test_the_package_of_this_version_is_used(caller: str) -> None:
    assert CALLERS[caller]() is not None
