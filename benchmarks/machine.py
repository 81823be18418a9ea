"""What this machine can do at best, measured: the bandwidth of memory and the rate of matrix products."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import median_ms

ROOT = Path(__file__).resolve().parents[1]

_CPU_SIZE, _GPU_SIZE = 1024, 8192  # of square matrices
_DESCRIPTION = ("--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")  # of a commit, for git
_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}  # well beyond any cache


@dataclass(frozen=True)
class Roofline:
    """The two ceilings of any program here."""

    copy_gb_per_s: float  # of memory, read and written bytes counted
    sgemm_gflops: float  # torch.matmul in float32
    tf32_gflops: float | None = None  # likewise on tensor cores; None on a CPU
    half_gflops: float | None = None  # in float16

    @property
    def matrix_gflops(self) -> float:
        """Of the units that feature splatting uses."""
        return self.tf32_gflops or self.sgemm_gflops

    def floor_ms(self, flops: float, moved_bytes: float) -> float:
        """The least time for so many operations and bytes."""
        return max(flops / (self.matrix_gflops * 1e6), moved_bytes / (self.copy_gb_per_s * 1e6))

    def __str__(self) -> str:
        rates = [f"copy {self.copy_gb_per_s:.0f} GB/s", f"sgemm {self.sgemm_gflops:.0f} GFLOP/s"]
        if self.tf32_gflops and self.half_gflops:
            rates += [f"tf32 {self.tf32_gflops:.0f}", f"fp16 {self.half_gflops:.0f}"]
        return ", ".join(rates)


def measure_roofline(device: torch.device, repeats: int) -> Roofline:
    """Measure both ceilings on random numbers: a GPU computes faster on zeros."""
    size = _GPU_SIZE if device.type == "cuda" else _CPU_SIZE
    copy = _copy_rate(device, repeats)
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)

    def rate(x: torch.Tensor, y: torch.Tensor) -> float:
        return 2 * size**3 / (median_ms(device, repeats, lambda: x @ y) * 1e6)

    if device.type != "cuda":
        return Roofline(copy, rate(a, b))
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        single = rate(a, b)
        torch.backends.cuda.matmul.allow_tf32 = True
        tf32 = rate(a, b)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return Roofline(copy, single, tf32, rate(a.half(), b.half()))


def _copy_rate(device: torch.device, repeats: int) -> float:
    """GB per second, read and written bytes counted."""
    source = torch.rand(_COPY_BYTES[device.type] // 8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (median_ms(device, repeats, lambda: target.copy_(source)) * 1e6)


def describe(device: torch.device) -> dict[str, Any]:
    """Which machine this is: what a reader needs to compare figures."""
    commit = os.environ.get("GSPLAT_COMMIT") or _output("git", "-C", str(ROOT), "describe", *_DESCRIPTION)
    facts: dict[str, Any] = {
        "commit": commit, "torch": torch.__version__, "python": platform.python_version(),
        "processor": _processor(), "name": _processor(), "threads": torch.get_num_threads(),
    }  # fmt: skip
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        facts |= {
            "name": properties.name, "memory_gb": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda,
            "driver": driver.splitlines()[0] if driver else None,
        }  # fmt: skip
    return facts


def short_commit(commit: str | None) -> str:
    """A commit as people write it, and whether files were changed after it."""
    if not commit:
        return "unknown"
    name, plus, _ = commit.partition("+")
    return f"{name[:7]} with changes" if plus else name[:7]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """What a command prints; None where there is no such command or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
