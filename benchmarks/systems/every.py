"""Every benchmark of a published system with its defaults, one after another."""

import subprocess
import sys
from dataclasses import dataclass

import tyro

from benchmarks import ROOT
from benchmarks.__main__ import GROUPS
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class EveryOptions:
    """Every benchmark of a published system with its defaults, one after another."""


def main() -> None:
    tyro.cli(EveryOptions)
    for name in [name for name in GROUPS["systems"] if name != "all"]:
        if subprocess.run([sys.executable, "-m", "benchmarks", "systems", name], cwd=ROOT).returncode:
            raise GSplatLocError(f"expected the benchmark {name} to succeed, found an error: see above")
