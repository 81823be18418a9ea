"""The number of the interface: checked at import, and changed with the functions that it stands for."""

import hashlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import gsplatloc_kernels as native
from gsplatloc_kernels import _core, alignment, cuda, matching
from gsplatloc_kernels.interface import INTERFACE, InterfaceError, check_interface

# Of the signatures of functions; keys of their dictionaries and results are not covered. After a change of
# one: raise the number (in `interface.py`, src/interface.h and the library's gaussian_renderer/native.py) and
# replace both here.
RECORDED = (1, "ef29153a3e9f6699")
_ARGUMENT = re.compile(r"(\w+): ")
_CUDA = Path(__file__).parents[2] / "submodules" / "diff-gaussian-rasterization" / "src" / "cuda"
_CUDA_ARGUMENT = re.compile(r'nb::arg\("(\w+)"\)')
_CUDA_FUNCTION = re.compile(r'm\.def\(\s*"(\w+)", &\w+, (.*?)\);', re.DOTALL)


def cuda_signatures() -> list[str]:
    """As the sources bind them: the CUDA half is not built everywhere."""
    sources = [(_CUDA / name).read_text() for name in ("bindings.cpp", "training_bindings.cpp")]
    return [
        f"_cuda.{name}({', '.join(_CUDA_ARGUMENT.findall(arguments))})"
        for source in sources
        for name, arguments in _CUDA_FUNCTION.findall(source)
    ]


def signatures() -> str:
    """Functions, classes and the names of their arguments: what the library and the package call."""
    lines = [
        f"_core.{name}({', '.join(_ARGUMENT.findall(line))})"
        for name in sorted(vars(_core))
        if callable(function := getattr(_core, name)) and not isinstance(function, type)
        for line in (function.__doc__ or "").splitlines()
        if line.startswith(f"{name}(")
    ]
    for module in (native, alignment, matching):
        for name, value in sorted(vars(module).items()):
            ours = getattr(value, "__module__", "").startswith("gsplatloc_kernels.") and name[0] != "_"
            if ours and (inspect.isclass(value) or inspect.isfunction(value)):
                lines.append(f"{name}({', '.join(inspect.signature(value).parameters)})")
    return "\n".join(lines + cuda_signatures())


def test_the_signatures_of_cuda_functions_are_found() -> None:
    assert cuda_signatures() == [
        "_cuda.forward(settings, inputs, outputs, allocate, stream)",
        "_cuda.check_capacity(counts, capacity)",
        "_cuda.backward(state, settings, inputs, outputs, d_outputs, d_inputs, allocate, stream)",
        "_cuda.photometric(arrays, width, height, lambda_dssim, allocate, stream)",
        "_cuda.adam(parameters, beta1, beta2, eps, stream)",
    ]


def test_other_signatures_of_functions_take_another_number() -> None:
    found = hashlib.sha256(signatures().encode()).hexdigest()[:16]
    assert (INTERFACE, found) == RECORDED, f"the interface has changed:\n{signatures()}"


@pytest.mark.parametrize("number", [None, 0, INTERFACE + 1])
def test_a_module_of_another_interface_is_refused(number: int | None) -> None:
    module = ModuleType("_core")
    module.__file__ = "/somewhere/_core.so"
    if number is not None:
        vars(module).update(INTERFACE=number)
    with pytest.raises(InterfaceError) as caught:
        check_interface(module)
    message = str(caught.value)
    assert f"expected a native module with interface {INTERFACE}, found" in message
    assert (str(number) if number else "one without a number") in message
    assert "/somewhere/_core.so" in message and "pip install" in message and "\n" not in message


def test_importing_the_package_checks_the_module_that_was_built(tmp_path: Path) -> None:
    """Sources that were updated beside a module that was not: a copy of the package, with a module that has
    none of its functions."""
    copy = tmp_path / "gsplatloc_kernels"
    copy.mkdir()
    for source in Path(native.__file__).parent.glob("*.py"):
        (copy / source.name).write_text(source.read_text())
    (copy / "_core.py").touch()
    command = [sys.executable, "-c", "import gsplatloc_kernels"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        "gsplatloc_kernels.interface.InterfaceError: expected a native module with interface"
        f" {INTERFACE}, found one without a number in"
    )


def test_a_cuda_half_of_another_interface_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("_cuda")
    module.__file__ = "/somewhere/_cuda.so"
    monkeypatch.setitem(sys.modules, "gsplatloc_kernels._cuda", module)
    cuda.extension.cache_clear()
    with pytest.raises(InterfaceError, match="in /somewhere/_cuda.so: .*`GSPLAT_CUDA=ON pip install"):
        native.has_cuda()


def test_the_built_module_has_the_number() -> None:
    assert _core.INTERFACE == native.INTERFACE == INTERFACE
