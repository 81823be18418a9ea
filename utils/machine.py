"""Which machine and which commit a result was made on."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).resolve().parents[1]  # of the checkout, if there is one
_WRITTEN = (":!benchmarks/results", ":!docs")  # files that benchmarks write themselves


def describe(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Facts that a reader needs to compare figures: commit, versions, processor or GPU."""
    facts: dict[str, Any] = {
        "commit": commit(), "torch": torch.__version__, "python": platform.python_version(),
        "processor": _processor(), "name": _processor(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        facts |= {
            "name": properties.name, "memory_gb": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda,
            "driver": driver.splitlines()[0] if driver else None,
        }  # fmt: skip
    return facts


@cache
def commit() -> str | None:
    """The commit of this checkout, `+changes` appended if files were changed after it; None without git."""
    if given := os.environ.get("GSPLAT_COMMIT"):
        return given
    git = ("git", "-C", str(_ROOT))
    if not (_ROOT / "pyproject.toml").is_file():  # an installed package, maybe within another repository
        return None
    found = _output(*git, "rev-parse", "HEAD")
    changed = _output(*git, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN)
    return f"{found}+changes" if found and changed else found


def short_commit(name: str | None) -> str:
    """The first seven digits of a commit, and whether files were changed after it."""
    if not name:
        return "unknown"
    digits, plus, _ = name.partition("+")
    return f"{digits[:7]} with changes" if plus else digits[:7]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """The output of a command; None where there is no such command or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
