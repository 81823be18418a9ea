"""The project's version, which stands in pyproject.toml and nowhere else."""

import tomllib
from functools import cache
from pathlib import Path


@cache
def version() -> str:
    """The version of this checkout."""
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])
