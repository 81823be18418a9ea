"""Builds the CUDA half for the CPU, once per state of its sources."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "submodules" / "diff-gaussian-rasterization"
SHIM = Path(__file__).resolve().parent / "shim"

collect_ignore_glob = [] if find_spec("gsplatloc_kernels") else ["test_*.py"]


@pytest.fixture(scope="session")
def shim_build(pytestconfig: pytest.Config) -> Path:
    """The folder of the compiled shim modules, kept in pytest's cache between runs."""
    # requirements-dev.txt brings some of these, beside the interpreter.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    tools = {tool: shutil.which(tool, path=path) for tool in ("cmake", "ninja", "c++")}
    missing = [tool for tool, found in tools.items() if not found]
    if missing or not find_spec("nanobind"):
        names = ", ".join(missing or ["nanobind"])
        pytest.skip(
            f"the kernels' host shim needs {names}: pip install -r requirements-dev.txt, and a compiler"
        )
    folder = pytestconfig.cache.mkdir("cuda-shim") / _key()
    folder.mkdir(exist_ok=True)
    # ninja rebuilds what a changed file reaches; another interpreter or another copy has its own folder.
    options = [f"-DNATIVE={NATIVE}", f"-DPython_EXECUTABLE={sys.executable}"]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make = f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}"
        _run([str(tools["cmake"]), "-G", "Ninja", make, *options, str(SHIM)], folder)
        _run([str(tools["ninja"]), "-j2"], folder)
    return folder


@pytest.fixture(scope="session")
def shim(shim_build: Path) -> ModuleType:
    """The CUDA half's Python module with its kernels running on the CPU."""
    return _load(shim_build, "splat_shim")


@pytest.fixture(scope="session")
def selftest(shim_build: Path) -> ModuleType:
    """Small kernels that show what the shim can do."""
    return _load(shim_build, "shim_selftest")


def _key() -> str:
    names = (str(NATIVE), sys.executable, sysconfig.get_platform(), sys.version)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", pytrace=False)


def _load(folder: Path, name: str) -> ModuleType:
    path = next(
        folder / (name + suffix) for suffix in EXTENSION_SUFFIXES if (folder / (name + suffix)).exists()
    )
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
