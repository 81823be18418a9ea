"""Every CUDA source compiles for GPUs, without warnings, and into the code that it was written to become.

For sm_80 and sm_90; with GSPLAT_ALL_ARCHITECTURES=1 for all of sm_75 to sm_120. Compiled objects are thrown
away: what nvcc said is kept in pytest's cache, by what went in. About 50 s on two idle cores when cold.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cuda.conftest import NATIVE
from tests.cuda.support import INCLUDES, LIBRARY

KERNELS = sorted((NATIVE / "src" / "cuda").glob("*.cu"))
SOURCES = [*KERNELS, LIBRARY]
ALL = os.environ.get("GSPLAT_ALL_ARCHITECTURES") == "1"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120) if ALL else (80, 90)
SPILL_ALLOWANCE = 96  # bytes per thread and kernel: a few registers, outside of the inner loops
TENSOR_CORE = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"


@dataclass(frozen=True)
class Compilation:
    """What nvcc said of one source, and how often its PTX for sm_80 asks for tensor cores."""

    status: int
    text: str
    tensor_core_products: int


@dataclass(frozen=True)
class Kernel:
    """What ptxas reports of one kernel on one GPU."""

    name: str
    architecture: str
    spilled: int  # bytes
    registers: int


class Compiler:
    """Compiles the sources two at a time; results from the cache where nothing changed."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._results: dict[Path, Future[Compilation]] = {}

    def __enter__(self) -> "Compiler":
        self._results = {source: self._pool.submit(self._compile, source) for source in SOURCES}
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def result(self, source: Path) -> Compilation:
        """Waits for it."""
        return self._results[source].result()

    def _compile(self, source: Path) -> Compilation:
        kept = self._cache / f"{source.stem}-{self._key(source)}"
        if not (kept / "status").exists():
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            self._run(source, kept)
        return Compilation(
            status=int((kept / "status").read_text()),
            text=(kept / "text").read_text(),
            tensor_core_products=int((kept / "products").read_text()),
        )

    def _run(self, source: Path, kept: Path) -> None:
        work = kept / "work"
        work.mkdir()
        done = subprocess.run(
            [*_command(), "--keep", "--keep-dir", str(work), "-c", str(source), "-o", str(work / "object.o")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        ptx = next(work.glob("*compute_80.ptx"), None)
        (kept / "products").write_text(str(ptx.read_text().count(TENSOR_CORE) if ptx else 0))
        (kept / "text").write_text(done.stdout + done.stderr)
        (kept / "status").write_text(str(done.returncode))
        shutil.rmtree(work)

    def _key(self, source: Path) -> str:
        """Of everything that may change the outcome."""
        digest = hashlib.sha256(" ".join(_command()).encode())
        headers = [*(NATIVE / "include").rglob("*.h"), *(NATIVE / "src").rglob("*.h")]
        included = KERNELS if source == LIBRARY else []
        for path in [source, *included, *sorted(headers), LIBRARY.parent / "shim" / "multiply.h"]:
            digest.update(path.read_bytes())
        digest.update(subprocess.run(["nvcc", "--version"], capture_output=True, check=True).stdout)
        return digest.hexdigest()[:16]


def _command() -> list[str]:
    targets = [f"-gencode=arch=compute_{cc},code=sm_{cc}" for cc in ARCHITECTURES]
    return ["nvcc", "-std=c++20", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v", *targets, *INCLUDES]


@pytest.fixture(scope="session")
def compiler(pytestconfig: pytest.Config) -> Iterator[Compiler]:
    if not shutil.which("nvcc"):
        pytest.skip("compiling for GPUs needs nvcc, found none on the PATH: install CUDA 12.8 or newer")
    with Compiler(pytestconfig.cache.mkdir("cuda-compile")) as compiler:
        yield compiler


def kernels_of(text: str) -> list[Kernel]:
    """Parses ptxas -v."""
    pattern = (
        r"Compiling entry function '(?P<name>\w+)' for '(?P<architecture>\w+)'.*?"
        r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers"
    )
    return [
        Kernel(
            found["name"], found["architecture"], max(int(found["stores"]), int(found["loads"])),
            int(found["registers"]),
        )
        for found in re.finditer(pattern, text, re.DOTALL)
    ]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_compiles_without_warnings(compiler: Compiler, source: Path) -> None:
    result = compiler.result(source)
    assert result.status == 0, "\n".join(
        line for line in result.text.splitlines() if not line.startswith("ptxas info")
    )


# CUB's kernels are CUB's business.
@pytest.mark.parametrize(
    "source", [path for path in SOURCES if path.stem != "primitives"], ids=lambda path: path.name
)
def test_no_kernel_spills_registers(compiler: Compiler, source: Path) -> None:
    kernels = kernels_of(compiler.result(source).text)
    spilling = [kernel for kernel in kernels if kernel.spilled > SPILL_ALLOWANCE]
    assert not spilling, f"{spilling}: use fewer registers or smaller blocks"
    if source.stem != "rasterizer":  # which has none of its own
        assert {kernel.architecture for kernel in kernels} == {f"sm_{cc}" for cc in ARCHITECTURES}


@pytest.mark.parametrize(
    "source", [path for path in KERNELS if "mma(" in path.read_text()], ids=lambda path: path.name
)
def test_matrix_products_run_on_tensor_cores(compiler: Compiler, source: Path) -> None:
    assert compiler.result(source).tensor_core_products > 0
